"""The contract of every evaluation, and what is particular to each."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.data import Dataset, Split, held_out
from pplemd.errors import DataError
from pplemd.metrics import ImageEvaluation, MixtureEvaluation, SampleEvaluation, frechet

MEANS = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
WEIGHTS = np.array([0.2, 0.3, 0.5])


def _gamma(count, seed):
    return np.random.default_rng(seed).gamma(2.0, size=(count, 3)).astype(np.float32)


def _unlabelled():
    x = np.clip(np.random.default_rng(0).standard_normal((240, 3, 3, 1)) * 0.3, -1, 1).astype(np.float32)
    return held_out(x)


IMAGE_NAMES = ["frechet", "precision", "recall", "class_kl", "frechet_train"]
IMAGE_NAMES += ["density", "coverage", "kid", "class_recall", "nearness"]
OF_CLASSES = ("class_kl", "class_recall")
MIXTURE_NAMES = ["modes", "sharp", "weight_kl", "sliced_w2"]
SAMPLE_NAMES = ["sliced_w2", "mean_error", "std_error"]
EVALUATIONS = {
    "digits": (lambda images: ImageEvaluation(images), IMAGE_NAMES),
    "unlabelled": (lambda _: ImageEvaluation(_unlabelled()), [n for n in IMAGE_NAMES if n not in OF_CLASSES]),
    "mixture": (lambda _: MixtureEvaluation(MEANS, WEIGHTS, 0.2, count=2000), MIXTURE_NAMES),
    "mixture of widths": (lambda _: MixtureEvaluation(MEANS, WEIGHTS, np.array([0.1, 0.2, 0.3]), 2000), MIXTURE_NAMES),
    "draws": (lambda _: SampleEvaluation(_gamma, count=2000), SAMPLE_NAMES),
    "array": (lambda _: SampleEvaluation(_gamma(2000, 0)), SAMPLE_NAMES),
}


@pytest.fixture(params=EVALUATIONS.values(), ids=EVALUATIONS)
def case(request, digit_images):
    declare, names = request.param
    return declare(digit_images), names


@pytest.mark.slow_for("digits")
def test_contract(case):
    evaluation, names = case
    measure = evaluation.prepare()
    assert evaluation.count >= 2000
    real = measure.real(150, 1)
    assert len(real) == 150
    assert not np.array_equal(real, measure.real(150, 2))
    np.testing.assert_array_equal(real, measure.real(150, 1))
    figures, floor = measure.measure(real), measure.floor()
    assert list(figures) == names
    assert list(floor) == names
    assert all(type(value) is float and np.isfinite(value) for value in [*figures.values(), *floor.values()])
    assert measure.measure(real, 3) == evaluation.prepare().measure(real, 3)
    bad = real.copy()
    bad[7] = np.nan
    with pytest.raises(DataError, match="1 of 150"):
        measure.measure(bad)
    with pytest.raises(DataError):
        measure.measure(real[:, :1])


def test_worse_samples_have_worse_figures(case):
    evaluation, _ = case
    measure = evaluation.prepare()
    real = measure.real(1000)
    noise = np.random.default_rng(0).standard_normal(real.shape).astype(np.float32)
    floor, worse = measure.floor(), measure.measure(real + 0.8 * noise)
    for name, times in (("frechet", 2.0), ("frechet_train", 2.0), ("sliced_w2", 1.3), ("std_error", 2.0)):
        if name in floor:
            assert worse[name] > times * floor[name], name
    for name in ("precision", "sharp", "density", "coverage"):
        if name in floor:
            assert worse[name] < floor[name] - 0.2, name


def test_declaring_is_light(monkeypatch, digit_images):
    def forbidden(*_, **__):
        raise AssertionError("work at declaration")

    monkeypatch.setattr("pplemd.metrics.image_evaluation.train_classifier", forbidden)
    monkeypatch.setattr("pplemd.metrics.mixtures._draw", forbidden)
    assert ImageEvaluation(digit_images).count == 5000
    assert MixtureEvaluation(MEANS, WEIGHTS, 0.2).count == 20_000
    assert SampleEvaluation(forbidden).count == 20_000


@pytest.mark.slow
def test_a_dropped_digit_lowers_recall_and_raises_class_kl(digit_images):
    measure = ImageEvaluation(digit_images).prepare()
    x, label = digit_images.train.x, digit_images.train.label
    dropped, floor = measure.measure(x[label != 3]), measure.floor()
    share = (digit_images.test.label == 3).mean()
    assert dropped["class_kl"] == pytest.approx(-np.log(1.0 - share), abs=1e-2)
    assert floor["class_kl"] < 1e-3
    assert dropped["recall"] < floor["recall"] - 0.05
    assert dropped["class_recall"] < 0.6 < floor["class_recall"]
    assert dropped["coverage"] < floor["coverage"]
    assert dropped["nearness"] == 0  # its samples are the training images themselves
    assert dropped["frechet_train"] > 0.3
    assert measure.measure(x)["frechet_train"] == pytest.approx(0.0, abs=1e-6)
    assert floor["frechet_train"] > 0.1  # two halves, not the split against itself


@pytest.mark.slow
def test_the_floor_is_of_as_many_samples_as_are_judged(digit_images):
    """The bias of a distance goes with the number of samples: few train images that are as good as any."""
    few, all_ = (ImageEvaluation(digit_images, count=count).prepare() for count in (100, 5000))
    shuffled = few.train.some(len(few.train.features), 3).features
    cut = [np.split(np.roll(shuffled, -shift, axis=0), [100]) for shift in range(0, 1000, 100)]
    ideal = np.mean([frechet(part, rest) for part, rest in cut])
    assert np.mean([few.floor(seed)["frechet_train"] for seed in range(10)]) == pytest.approx(ideal, rel=0.3)
    assert all_.floor()["frechet_train"] < ideal / 2
    x = np.random.default_rng(0).standard_normal((40_000, 2)).astype(np.float32)
    ideal = SampleEvaluation(x, count=200).prepare()
    figures = [ideal.measure(np.random.default_rng(seed).standard_normal((200, 2)))["sliced_w2"] for seed in range(8)]
    floors = [ideal.floor(seed)["sliced_w2"] for seed in range(8)]
    assert np.mean(floors) == pytest.approx(np.mean(figures), rel=0.3)


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
def test_arrays_of_any_kind(kind):
    x = _gamma(200, 0)
    assert SampleEvaluation(kind(x)).prepare().floor() == SampleEvaluation(x).prepare().floor()
    means, weights = np.zeros((1, 2)), np.ones(1)
    one, other = (MixtureEvaluation(means, weights, std, 100).prepare() for std in (2.0, np.float32(2.0)))
    assert one.floor() == other.floor()


def test_the_classifier_never_sees_the_held_out_split(digit_images, monkeypatch):
    seen = []

    def record(x, label):
        seen.append((x, label))
        raise InterruptedError

    monkeypatch.setattr("pplemd.metrics.image_evaluation.train_classifier", record)
    with pytest.raises(InterruptedError):
        ImageEvaluation(digit_images).prepare()
    assert seen[0][0] is digit_images.train.x
    assert seen[0][1] is digit_images.train.label


def test_vectors_and_single_classes_have_no_class_kl():
    x = (np.random.default_rng(0).random((80, 2)) * 2 - 1).astype(np.float32)
    found = ImageEvaluation(held_out(x, np.zeros(80, np.int32))).prepare().floor()
    assert "class_kl" not in found
    assert found["precision"] > 0.5


def test_too_small_a_held_out_split():
    x = np.zeros((9, 2), np.float32)
    with pytest.raises(DataError, match="more than k = 3"):
        ImageEvaluation(Dataset(Split(x), Split(x[:3]))).prepare()


def test_mixture_floor_and_collapse():
    evaluation = MixtureEvaluation(MEANS, WEIGHTS, 0.2, count=4000)
    measure = evaluation.prepare()
    floor = measure.floor()
    assert floor["modes"] == 3.0
    assert floor["sharp"] > 0.998
    # 2 n KL is chi-squared with 2 degrees of freedom, mean 2, s.d. 2: 4 s.d. above the mean is 10 / 8000
    assert floor["weight_kl"] < 10.0 / 8000.0
    assert floor["sliced_w2"] < 0.3
    real = measure.real(4000)
    kept = real[real[:, 1] < 3.0]
    collapsed = measure.measure(kept)
    assert collapsed["modes"] == 2.0
    assert collapsed["weight_kl"] == pytest.approx(np.log(2.0), abs=0.02)
    assert collapsed["sliced_w2"] > 4 * floor["sliced_w2"]
    assert not np.array_equal(measure.reference, measure.real(4000, 0))


def test_mixture_draws_have_the_mixtures_moments():
    measure = MixtureEvaluation(MEANS, WEIGHTS, np.array([0.1, 0.2, 0.3]), count=20_000).prepare()
    x = measure.real(20_000)
    mean = WEIGHTS @ MEANS
    second = np.diag(np.full(2, WEIGHTS @ np.array([0.01, 0.04, 0.09])))
    covariance = second + (MEANS - mean[None]).T @ (WEIGHTS[:, None] * (MEANS - mean[None]))
    np.testing.assert_allclose(x.mean(axis=0), mean, atol=4 * np.sqrt(np.diag(covariance).max() / 20_000))
    np.testing.assert_allclose(np.cov(x, rowvar=False), covariance, atol=0.3)
    for centre, std in zip(MEANS, (0.1, 0.2, 0.3), strict=True):
        near = x - centre[None]
        assert near[np.linalg.norm(near, axis=1) < 3.0].std() == pytest.approx(std, rel=0.05)


def test_mixtures_are_checked_where_they_are_declared():
    with pytest.raises(DataError, match="positive shares"):
        MixtureEvaluation(MEANS, np.array([0.5, 0.5]), 0.2)
    with pytest.raises(DataError, match="above 0"):
        MixtureEvaluation(MEANS, WEIGHTS, 0.0)


def test_sample_errors_in_closed_form():
    measure = SampleEvaluation(_gamma, count=500).prepare()
    x = measure.reference
    moved = measure.measure(x + np.array([[3.0, 0.0, 0.0]], np.float32))
    assert moved["mean_error"] == pytest.approx(np.sqrt(3.0), rel=1e-5)
    assert moved["std_error"] == pytest.approx(0.0, abs=1e-5)
    stretched = measure.measure(2.0 * x - x.mean(axis=0)[None])
    assert stretched["mean_error"] == pytest.approx(0.0, abs=1e-5)
    assert stretched["std_error"] == pytest.approx(np.sqrt((x.std(axis=0) ** 2).mean()), rel=1e-4)


def test_an_array_is_parted_into_reference_and_real():
    x = np.arange(40.0).reshape(20, 2)
    measure = SampleEvaluation(x).prepare()
    real = measure.real(100)
    assert (len(measure.reference), len(real)) == (10, 10)
    assert sorted(map(tuple, np.concatenate([measure.reference, real]).tolist())) == sorted(map(tuple, x.tolist()))
    with pytest.raises(DataError, match="at least 4"):
        SampleEvaluation(x[:3]).prepare()


def test_evaluations_are_frozen(digit_images):
    with pytest.raises(dataclasses.FrozenInstanceError):
        ImageEvaluation(digit_images).count = 3
