"""Features by functions: figures against closed forms, and what is said of functions that give no vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pplemd as em
from pplemd.data import Dataset, Split
from pplemd.errors import DataError
from pplemd.metrics import ImageEvaluation, frechet
from pplemd.metrics.features import ROWS_OF_A_FUNCTION

CLASSES = 3


def levels(image):
    """The mean of an image and its first pixel: two features."""
    return jnp.stack([image.mean(), image[0, 0, 0]])


def nearest(features):
    """Logits: the class whose level is nearest, of -0.5, 0 and 0.5."""
    return -((features[:1] - jnp.asarray([-0.5, 0.0, 0.5])) ** 2)


def images(count: int, seed: int, noise: float = 0.05) -> Split:
    rng = np.random.default_rng(seed)
    label = (np.arange(count) % CLASSES).astype(np.int32)
    x = label[:, None, None, None] / 2 - 0.5 + noise * rng.standard_normal((count, 4, 4, 1))
    return Split(np.clip(x, -1, 1).astype(np.float32), label)


DATA = Dataset(images(900, 0), images(600, 1), CLASSES)


def test_features_are_the_function_s_whatever_the_count():
    given = em.features(levels, classify=nearest)
    x = images(2 * ROWS_OF_A_FUNCTION + 7, 2).x
    found = given.features(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.stack([x.mean((1, 2, 3)), x[:, 0, 0, 0]], axis=1), atol=1e-6)
    np.testing.assert_array_equal(given.labels_of(found), np.argmin(abs(found[:, :1] - [[-0.5, 0.0, 0.5]]), axis=1))
    assert em.features(levels).labels_of(found) is None


FURTHER = ["density", "coverage", "kid", "class_recall", "nearness"]


def test_figures_are_those_of_the_features():
    measure = ImageEvaluation(DATA, count=600, features=em.features(levels, classify=nearest)).prepare()
    samples = images(600, 3)
    asked = np.where(np.arange(600) < 150, (samples.label + 1) % CLASSES, samples.label)
    figures = measure.measure(samples.x, labels=asked)
    read = ["class_kl", "class_accuracy"]
    assert list(figures) == ["frechet", "precision", "recall", *read, "frechet_train", *FURTHER]
    assert figures["class_accuracy"] == 0.75
    assert figures["class_kl"] == pytest.approx(0.0, abs=1e-5)
    moments = [np.stack([x.mean((1, 2, 3)), x[:, 0, 0, 0]], axis=1) for x in (samples.x, DATA.test.x)]
    assert figures["frechet"] == pytest.approx(frechet(*moments), rel=1e-3)
    shifted = measure.measure(samples.x + np.float32(0.2), labels=asked)
    assert shifted["frechet"] == pytest.approx(2 * 0.2**2, rel=0.05)  # both features move by 0.2, nothing else does
    assert "class_accuracy" not in measure.measure(samples.x)


def test_the_floor_is_read_by_the_labels_of_the_data():
    measure = ImageEvaluation(DATA, count=300, features=em.features(levels, classify=nearest)).prepare()
    floor = measure.floor(labelled=True)
    assert list(floor) == list(measure.measure(images(300, 3).x, labels=images(300, 3).label))
    assert floor["class_accuracy"] == 1.0
    assert "class_accuracy" not in measure.floor()
    plain = ImageEvaluation(DATA, features=em.features(levels)).prepare().measure(images(600, 3).x)
    assert list(plain) == ["frechet", "precision", "recall", "frechet_train", *FURTHER]


def test_a_network_s_weights_are_no_constants():
    network = em.networks.MLP((4, 4, 1), (5,), width=4, depth=1, key=jax.random.key(0))
    assert em.features(network).features(images(9, 0).x).shape == (9, 5)


@pytest.mark.parametrize(
    ("function", "classify", "message"),
    [
        (lambda image: image, None, r"ShapeDtypeStruct\(shape=\(4, 4, 1\).*expected one vector"),
        (lambda image: image.mean(), None, "expected one vector"),
        (lambda image: (image.reshape(-1), image), None, "expected one vector"),
        (levels, lambda features: features.mean(), "function of the classes gives"),
    ],
)
def test_functions_that_give_no_vector(function, classify, message):
    given = em.features(function, classify=classify)
    with pytest.raises(DataError, match=message):
        given.labels_of(given.features(images(6, 0).x))


def test_neither_a_path_nor_a_function():
    with pytest.raises(DataError, match="found a int as features"):
        em.features(3)
    with pytest.raises(DataError, match="classes of its own"):
        em.features("lenet.npz", classify=nearest)
