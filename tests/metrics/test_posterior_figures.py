"""Posteriors judged: moments in the model's own numbers, MMD, and a classifier, against laws that are known."""

import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.metrics import PosteriorEvaluation, c2st, mmd

SPREAD = np.array([1.0, 0.5, 2.0])


def draws(count, seed, shift=0.0, stretch=1.0):
    eps = np.random.default_rng(seed).standard_normal((count, 3))
    return (shift + stretch * SPREAD * eps).astype(np.float32)


def values(x):
    """The model's own numbers; the last one never varies."""
    return {"scale": np.exp(0.5 * x[:, 0]), "pair": x[:, 1:], "constant": np.ones(len(x), np.float32)}


EVALUATION = PosteriorEvaluation(draws, values, count=4000)
MEASURE = EVALUATION.prepare()


def test_real_samples_are_at_the_floor():
    figures = MEASURE.measure(draws(4000, 9))
    assert list(figures) == ["mean_error", "sd_error", "mmd", "c2st"] == list(MEASURE.floor())
    assert figures["mean_error"] < 4 * (2 / 4000) ** 0.5
    assert figures["sd_error"] < 0.1
    assert figures["mmd"] < 0.05
    assert abs(figures["c2st"] - 0.5) < 0.04
    assert MEASURE.real(10, 3).shape == (10, 3)
    assert not np.array_equal(MEASURE.real(10), MEASURE.reference[:10])


def test_a_shift_is_found_in_the_number_that_it_moves_most():
    figures = MEASURE.measure(draws(4000, 9, shift=0.5))
    assert 0.9 < figures["mean_error"] < 1.1  # half a unit is one s.d. of the second coordinate
    assert figures["c2st"] > 0.65
    assert figures["mmd"] > 0.1


def test_a_stretch_is_found():
    figures = MEASURE.measure(draws(4000, 9, stretch=1.5))
    assert figures["sd_error"] > 0.45
    assert figures["c2st"] > 0.6


def test_without_names_the_coordinates_are_judged():
    figures = PosteriorEvaluation(draws, count=2000).prepare().measure(draws(2000, 9, shift=1.0))
    assert 1.8 < figures["mean_error"] < 2.2


def test_mmd_is_that_of_gaussians():
    """N(0, I) against N(m, I), kernel of width h: 2 (h^2 / (h^2 + 2))^(d/2) (1 - exp(-m^2 / (2 (h^2 + 2))))."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((1500, 2)), rng.standard_normal((1500, 2)) + np.array([1.0, 0.0])
    width = np.median(np.sum((a[:, None] - b[None]) ** 2, axis=2)) / 2  # h^2
    expected = 2 * width / (width + 2) * (1 - np.exp(-1 / (2 * (width + 2))))
    assert abs(mmd(a, b) ** 2 - expected) < 0.02
    assert mmd(a, rng.standard_normal((1500, 2))) < 0.05


@pytest.mark.parametrize("function", [mmd, c2st])
def test_unlike_widths_and_few_samples_are_refused(function):
    with pytest.raises(DataError, match="expected"):
        function(np.zeros((20, 2)), np.ones((20, 3)))
    with pytest.raises(DataError, match="expected"):
        function(np.zeros((1, 2)), np.ones((1, 2)))


def test_samples_that_are_not_finite_are_refused():
    with pytest.raises(DataError, match="NaN"):
        MEASURE.measure(np.full((50, 3), np.nan, np.float32))


def test_a_classifier_tells_laws_apart_in_any_units():
    """What is far from 0 is not cut off: units are those of the second law."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((500, 2)), rng.standard_normal((500, 2)) + np.array([1.0, 0.0])
    found = c2st(a, b)
    assert 0.6 < found < 0.8
    for shift, scale in ((100.0, 1.0), (-3.0, 1e-3), (5e4, 1e3)):
        assert c2st(shift + scale * a, shift + scale * b) == pytest.approx(found, abs=1e-6)
    with pytest.raises(DataError, match="NaN"):
        c2st(np.where(a > 3, np.nan, a) * np.nan, b)


def test_a_coordinate_that_never_varies_and_one_of_truth_values():
    def pinned(count, seed):
        return np.concatenate([draws(count, seed), np.full((count, 1), 2.0, np.float32)], axis=1)

    def with_truth(x):
        return {"large": x[:, 0] > 1, "first": x[:, 0]}

    measure = PosteriorEvaluation(pinned, with_truth, count=2000).prepare()
    same, free = measure.measure(pinned(2000, 9)), pinned(2000, 9)
    assert abs(same["c2st"] - 0.5) < 0.04
    free[:, 3] += np.random.default_rng(1).standard_normal(2000).astype(np.float32)
    assert measure.measure(free)["c2st"] > 0.65
    with pytest.raises(DataError, match="never vary"):
        PosteriorEvaluation(lambda count, seed: np.ones((count, 2), np.float32)).prepare().measure(np.ones((20, 2)))


def test_far_from_zero_the_discrepancy_keeps_its_digits():
    a, b = draws(500, 0).astype(float), draws(500, 1, shift=0.3).astype(float)
    assert mmd(a + 1e8, b + 1e8) == pytest.approx(mmd(a, b), rel=1e-4)
