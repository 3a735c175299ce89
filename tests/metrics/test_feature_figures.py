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


def test_refuses():
    with pytest.raises(DataError, match="n >= 6"):
        feature_figures(REAL[:3], SAME)
    with pytest.raises(DataError, match="one size"):
        feature_figures(REAL, SAME[:, :2])
