import numpy as np
import pytest
import scipy.stats

from pplemd.errors import DataError
from pplemd.metrics import sliced_wasserstein


@pytest.mark.parametrize("shift", [0.0, 1.5, -0.25])
def test_a_shift_in_one_dimension(shift):
    x = np.random.default_rng(0).standard_normal((500, 1))
    shuffled = np.random.default_rng(1).permutation(x)
    assert sliced_wasserstein(x, shuffled + shift) == pytest.approx(abs(shift), abs=1e-12)


def test_scale_in_one_dimension_between_gaussians():
    # int |F^-1 - G^-1| of N(0, 1) and N(0, 2^2) is E|Z| = sqrt(2 / pi)
    quantiles = scipy.stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)[:, None]
    assert sliced_wasserstein(quantiles, 2.0 * quantiles, order=1) == pytest.approx(np.sqrt(2.0 / np.pi), abs=1e-3)
    assert sliced_wasserstein(quantiles, 2.0 * quantiles) == pytest.approx(1.0, abs=1e-3)  # |2 - 1| of the s.d.


def test_a_shift_in_the_plane_is_its_mean_projection():
    # E|<theta, s>| = |s| 2 / pi over directions of the plane; var = |s|^2 (1/2 - 4 / pi^2)
    x = np.random.default_rng(0).standard_normal((40, 2))
    found = sliced_wasserstein(x, x + np.array([[3.0, 4.0]]), projections=4000, order=1)
    assert found == pytest.approx(10.0 / np.pi, abs=4.0 * 5.0 * np.sqrt((0.5 - 4.0 / np.pi**2) / 4000))
    # E<theta, s>^2 = |s|^2 / 2; var = |s|^4 / 8
    square = sliced_wasserstein(x, x + np.array([[3.0, 4.0]]), projections=4000) ** 2
    assert square == pytest.approx(12.5, abs=4.0 * 25.0 / np.sqrt(8 * 4000))


@pytest.mark.parametrize("counts", [(70, 70), (70, 31), (10, 1), (64, 16)])
def test_unequal_counts_agree_with_scipy(counts):
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((counts[0], 1)), rng.gamma(2.0, size=(counts[1], 1))
    expected = scipy.stats.wasserstein_distance(a[:, 0], b[:, 0])
    assert sliced_wasserstein(a, b, order=1) == pytest.approx(expected, rel=1e-10)


def test_seed_symmetry_and_shape():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((50, 2, 3)), rng.standard_normal((40, 2, 3)) + 1.0
    found = sliced_wasserstein(a, b, seed=1)
    assert found == sliced_wasserstein(a.reshape(50, 6), b, seed=1)
    assert found == pytest.approx(sliced_wasserstein(b, a, seed=1), rel=1e-12)
    assert found != sliced_wasserstein(a, b, seed=2)


def test_refuses():
    x = np.zeros((5, 2))
    with pytest.raises(DataError, match="at least 1"):
        sliced_wasserstein(x, x, projections=0)
    with pytest.raises(DataError, match="expected 1 or 2"):
        sliced_wasserstein(x, x, order=3)
    with pytest.raises(DataError, match="one size"):
        sliced_wasserstein(x, np.zeros((5, 3)))
    with pytest.raises(DataError, match="NaN"):
        sliced_wasserstein(x, np.full((5, 2), np.nan))
