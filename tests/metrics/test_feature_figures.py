"""All figures of two sets of features at once."""

import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.metrics import balls, feature_figures, frechet, kernel_distance

RNG = np.random.default_rng(0)
REAL, SAME, OTHER = RNG.standard_normal((400, 3)), RNG.standard_normal((300, 3)), RNG.standard_normal((300, 3)) + 1.5


def test_each_figure_is_that_of_its_own_function_and_tells_laws_apart():
    same, other = feature_figures(REAL, SAME), feature_figures(REAL, OTHER)
    around = balls(REAL, SAME, 5)
    assert same["frechet"] == frechet(SAME, REAL)
    assert same["kid"] == kernel_distance(REAL, SAME).mean
    assert (same["density"], same["coverage"]) == (around.density, around.coverage)
    for name in ("frechet", "kid", "mmd", "c2st"):
        assert other[name] > same[name] + 0.1, name
    for name in ("precision", "recall", "density", "coverage"):
        assert other[name] < same[name] - 0.1, name
    assert feature_figures(REAL, SAME) == same


def test_features_that_never_vary_do_not_matter():
    wide = [np.concatenate([x, np.ones((len(x), 1))], axis=1) for x in (REAL, OTHER)]
    assert feature_figures(*wide)["c2st"] == feature_figures(REAL, OTHER)["c2st"]


def test_what_varies_among_the_fake_ones_alone_tells_them_apart():
    noise = 5 * RNG.standard_normal((len(SAME), 1))
    real = np.concatenate([REAL, np.zeros((len(REAL), 1))], axis=1)
    fake, pinned = (np.concatenate([SAME, other], axis=1) for other in (noise, np.full((len(SAME), 1), 3.0)))
    plain = feature_figures(REAL, SAME)
    assert feature_figures(real, fake)["c2st"] > plain["c2st"] + 0.1
    assert feature_figures(real, fake)["mmd"] > plain["mmd"] + 0.1
    assert feature_figures(real, pinned)["c2st"] > 0.95
    with pytest.raises(DataError, match="one point"):
        feature_figures(np.ones((20, 2)), np.ones((20, 2)))


@pytest.mark.slow
def test_a_spread_over_blocks_is_of_two_or_more():
    assert "kid_sd" not in feature_figures(REAL, SAME)
    many = RNG.standard_normal((1100, 3))
    assert 0 < feature_figures(many, SAME)["kid_sd"] < 0.1


def test_refuses():
    with pytest.raises(DataError, match="n >= 6"):
        feature_figures(REAL[:3], SAME)
    with pytest.raises(DataError, match="one size"):
        feature_figures(REAL, SAME[:, :2])
