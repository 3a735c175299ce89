import numpy as np
import pytest
import scipy.linalg

from pplemd.errors import DataError
from pplemd.metrics import frechet, frechet_gaussians


def _spd(seed, size=5):
    a = np.random.default_rng(seed).standard_normal((size, size + 2))
    return a @ a.T / size


def test_one_dimension_and_diagonals_in_closed_form():
    # (m_a - m_b)^2 + sum (s_a - s_b)^2
    found = frechet_gaussians(np.array([1.0]), np.array([[4.0]]), np.array([-2.0]), np.array([[0.25]]))
    assert found == pytest.approx(9.0 + 1.5**2, rel=1e-12)
    a, b = np.diag([1.0, 4.0, 9.0]), np.diag([16.0, 1.0, 0.0])
    assert frechet_gaussians(np.zeros(3), a, np.zeros(3), b) == pytest.approx(9.0 + 1.0 + 9.0, rel=1e-12)


def test_two_by_two_that_do_not_commute():
    # tr (A B)^1/2 of 2x2 matrices is sqrt(tr(AB) + 2 sqrt(det(AB))), by Cayley and Hamilton
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.7], [-0.7, 2.0]])
    assert np.abs(a @ b - b @ a).max() > 0.5
    cross = np.sqrt(np.trace(a @ b) + 2.0 * np.sqrt(np.linalg.det(a @ b)))
    found = frechet_gaussians(np.ones(2), a, np.zeros(2), b)
    assert found == pytest.approx(2.0 + np.trace(a) + np.trace(b) - 2.0 * cross, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_matrix_square_root_and_is_symmetric(seed):
    a, b, mean = _spd(seed), _spd(seed + 100), np.arange(5.0)
    expected = 30.0 + np.trace(a + b - 2.0 * scipy.linalg.sqrtm(a @ b).real)
    assert frechet_gaussians(mean, a, np.zeros(5), b) == pytest.approx(expected, rel=1e-9)
    assert frechet_gaussians(np.zeros(5), b, mean, a) == pytest.approx(expected, rel=1e-9)


def test_singular_covariances():
    flat = np.outer([1.0, 2.0, 2.0], [1.0, 2.0, 2.0])  # one direction of variance 9
    assert frechet_gaussians(np.zeros(3), flat, np.zeros(3), flat) == pytest.approx(0.0, abs=1e-6)
    assert frechet_gaussians(np.zeros(3), flat, np.zeros(3), 4 * flat) == pytest.approx(9.0, rel=1e-6)


def test_features_of_exact_moments():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    assert frechet(x, x) == pytest.approx(0.0, abs=1e-9)
    assert frechet(x, x + np.array([[1.0, -2.0, 0.5]])) == pytest.approx(5.25, rel=1e-9)
    deviation = x.std(axis=0, ddof=1)
    principal = np.linalg.svd(np.cov(x, rowvar=False))[1]
    assert frechet(x, 3.0 * x - 2.0 * x.mean(axis=0)[None]) == pytest.approx(4.0 * principal.sum(), rel=1e-9)
    assert 4.0 * principal.sum() == pytest.approx(4.0 * (deviation**2).sum())


def test_draws_approach_the_gaussians():
    a, b, mean = _spd(0, 3), _spd(1, 3), np.array([0.5, 0.0, -0.5])
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal(mean, a, 40_000)
    y = rng.multivariate_normal(np.zeros(3), b, 40_000)
    exact = frechet_gaussians(mean, a, np.zeros(3), b)
    assert frechet(x.reshape(-1, 3, 1), y) == pytest.approx(exact, rel=0.06)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((1, 2)), np.zeros((5, 2)), "n >= 2"),
        (np.zeros((5, 3)), np.zeros((5, 2)), "one size"),
        (np.full((5, 2), np.nan), np.zeros((5, 2)), "5 of 5"),
        (np.zeros((5, 2)), np.array([[0.0, 1.0], [np.inf, 0.0]]), "1 of 2"),
        (1e160 * np.random.default_rng(0).standard_normal((5, 2)), np.zeros((5, 2)), "too large to square"),
    ],
)
def test_refuses(a, b, message):
    with pytest.raises(DataError, match=message):
        frechet(a, b)
