import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

from pplemd.errors import DataError
from pplemd.metrics import principal, train_classifier


class _Counted:
    """scikit-learn's classifier with its trainings counted."""

    def __init__(self, monkeypatch):
        self.fits = 0
        original = MLPClassifier.fit

        def fit(network, x, y):
            self.fits += 1
            return original(network, x, y)

        monkeypatch.setattr(MLPClassifier, "fit", fit)


def _arrays(classifier):
    return [classifier.hidden, classifier.hidden_bias, classifier.out, classifier.out_bias, classifier.present]


def test_reads_held_out_digits(digit_images):
    train, test = digit_images.train, digit_images.test
    classifier = train_classifier(train.x, train.label)
    assert classifier.accuracy(test.x, test.label) >= 0.93
    found = classifier.features(test.x)
    assert (found.shape, found.dtype) == ((450, 64), np.float32)
    assert found.min() == 0.0
    np.testing.assert_array_equal(classifier.labels_of(found), classifier.labels(test.x))
    assert (classifier.labels(test.x) == test.label).mean() == classifier.accuracy(test.x, test.label)


def test_is_the_network_that_scikit_learn_trained(digit_images):
    train, test = digit_images.train, digit_images.test
    network = MLPClassifier(hidden_layer_sizes=(64,), random_state=0, max_iter=200)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(train.x.reshape(-1, 64), train.label)
    ours = train_classifier(train.x, train.label)
    assert (network.predict(test.x.reshape(-1, 64)) == ours.labels(test.x)).mean() > 0.995


def test_is_trained_once_then_read(digit_images, monkeypatch, tmp_path):
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path))
    counted = _Counted(monkeypatch)
    x, label = digit_images.train.x[:300], digit_images.train.label[:300]
    first, again = train_classifier(x, label), train_classifier(x, label)
    assert counted.fits == 1
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    anew = train_classifier(x, label)
    assert counted.fits == 2
    for a, b, c in zip(_arrays(first), _arrays(again), _arrays(anew), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)  # deterministic
    train_classifier(x, (label + 1) % 10)
    train_classifier(-x, label)
    assert counted.fits == 4


def test_two_classes_and_missing_classes():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200).astype(np.int32) * np.int32(3) + np.int32(2)  # classes 2 and 5
    x = (rng.standard_normal((200, 4, 4, 1)) * 0.1 + (label[:, None, None, None] == 5)).astype(np.float32)
    classifier = train_classifier(x, label)
    assert classifier.present.tolist() == [2, 5]
    assert classifier.accuracy(x, label) == 1.0


def test_one_class_is_refused():
    with pytest.raises(DataError, match="two or more"):
        train_classifier(np.zeros((5, 2, 2, 1), np.float32), np.zeros(5, np.int32))


def test_principal_components_keep_distances():
    x = np.random.default_rng(0).standard_normal((80, 3, 4)).astype(np.float32)
    found = principal(x).features(x)
    assert found.shape == (80, 12)
    flat = x.reshape(80, 12)
    np.testing.assert_allclose(
        np.linalg.norm(found[0] - found[1:], axis=1), np.linalg.norm(flat[0] - flat[1:], axis=1), rtol=1e-4
    )


def test_principal_components_of_wide_samples_are_cut():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 10, 10)).astype(np.float32)
    x[:, 0, 0] *= 30.0
    extractor = principal(x)
    assert extractor.features(x).shape == (300, 64)
    assert abs(extractor.axes[0, 0]) > 0.99
    np.testing.assert_allclose(extractor.axes.T @ extractor.axes, np.eye(64), atol=1e-4)
    with pytest.raises(DataError, match="two or more"):
        principal(x[:1])
