"""Reference statistics in EDM's format, and the Frechet distance between them."""

import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.metrics import Statistics, frechet, load_statistics, statistics

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((300, 5)), 1.3 * RNG.standard_normal((200, 5)) + 0.4


def test_the_distance_of_statistics_is_that_of_the_features(tmp_path):
    statistics(A).save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        assert set(file) == {"mu", "sigma"}
        np.testing.assert_allclose(file["sigma"], np.cov(A, rowvar=False))
    assert load_statistics(tmp_path / "a.npz").frechet(statistics(B)) == pytest.approx(frechet(A, B))


def test_of_two_known_gaussians_it_is_exact():
    """|m|^2 + sum (s_a - s_b)^2 where covariances are diagonal; rotating both together changes nothing."""
    mean, s_a, s_b = np.array([0.5, -1.0, 2.0]), np.array([1.0, 0.3, 2.0]), np.array([0.5, 0.3, 1.5])
    turn, _ = np.linalg.qr(RNG.standard_normal((3, 3)))
    a = Statistics(np.zeros(3), turn @ np.diag(s_a**2) @ turn.T)
    b = Statistics(turn @ mean, turn @ np.diag(s_b**2) @ turn.T)
    expected = np.sum(mean**2) + np.sum((s_a - s_b) ** 2)
    assert a.frechet(b) == pytest.approx(expected, rel=1e-12)
    assert a.frechet(a) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("arrays", "phrase"),
    [
        ({"mu": np.zeros(3)}, "holds mu; expected the arrays mu and sigma"),
        ({"mu": np.zeros(3), "sigma": np.eye(2)}, r"sigma of shape \(2, 2\)"),
        ({"mu": np.zeros(3), "sigma": np.full((3, 3), np.nan)}, "finite"),
        ({"mu": np.zeros(2), "sigma": np.array([[1.0, 0.9], [0.0, 1.0]])}, "no covariance"),
        ({"mu": np.zeros(2), "sigma": -np.eye(2)}, "no covariance"),
    ],
    ids=["no sigma", "shapes", "nan", "one triangle", "negative"],
)
def test_other_files_are_refused(tmp_path, arrays, phrase):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(DataError, match=phrase):
        load_statistics(tmp_path / "bad.npz")


def test_what_is_no_file_and_what_executes_code_is_refused(tmp_path):
    with pytest.raises(DataError, match="found no file .*none.npz, expected reference statistics, such as https"):
        load_statistics(tmp_path / "none.npz")
    np.savez(tmp_path / "objects.npz", mu=np.array([object()], dtype=object), sigma=np.eye(1))
    with pytest.raises(DataError, match="cannot be read"):
        load_statistics(tmp_path / "objects.npz")
    with pytest.raises(DataError, match="5 and of 2"):
        statistics(A).frechet(statistics(B[:, :2]))
