"""The kernel distance: unbiased at every count, and what its blocks are."""

import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.metrics import kernel_distance
from pplemd.metrics.distances import squared_mmd


def _moment(mean_a, mean_b, count=200_000):
    """E k(x, y) by draws of N(mean_a, I) and N(mean_b, I)."""
    rng = np.random.default_rng(7)
    x, y = (mean + rng.standard_normal((count, 2)) for mean in (mean_a, mean_b))
    return np.mean((np.sum(x * y, axis=1) / 2 + 1) ** 3)


def test_the_estimate_is_unbiased_even_of_ten_samples():
    """Against its expectation, E k(a, a') + E k(b, b') - 2 E k(a, b), by an independent Monte Carlo."""
    a, b = np.array([0.0, 0.0]), np.array([1.0, 0.5])
    expected = _moment(a, a) + _moment(b, b) - 2 * _moment(a, b)
    rng = np.random.default_rng(0)
    found = [squared_mmd(rng.standard_normal((10, 2)) + a, rng.standard_normal((10, 2)) + b) for _ in range(20_000)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - expected) < 4 * (error + 0.02)
    biased = np.mean(found) + _diagonal(a) / 10 + _diagonal(b) / 10  # what keeping pairs of one sample would add
    assert abs(biased - expected) > 10 * (error + 0.02)


def _diagonal(mean):
    """E k(x, x) - E k(x, x')."""
    x = mean + np.random.default_rng(3).standard_normal((100_000, 2))
    return np.mean((np.sum(x**2, axis=1) / 2 + 1) ** 3) - _moment(mean, mean)


def test_agrees_with_the_definition_one_pair_at_a_time():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((6, 3)), rng.standard_normal((5, 3)) + 0.3
    k = lambda x, y: (x @ y / 3 + 1) ** 3  # noqa: E731
    within = [np.mean([k(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j]) for x in (a, b)]
    across = np.mean([k(x, y) for x in a for y in b])
    expected = sum(within) - 2 * across
    assert squared_mmd(a, b) == pytest.approx(expected)
    whole = kernel_distance(a, b)
    assert whole.mean == pytest.approx(expected)
    assert whole.std is None


def test_blocks_are_of_the_size_asked_for_and_of_the_seed():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((600, 4)), rng.standard_normal((500, 4))
    found, again, other = (kernel_distance(a, b, 20, 100, seed) for seed in (0, 0, 1))
    assert (found.mean, found.std) == (again.mean, again.std)
    assert found.mean != other.mean
    assert found.std > 0
    assert abs(found.mean) < 4 * found.std / np.sqrt(5)  # of one law: about zero; five blocks share no sample
    shifted = kernel_distance(a, b + 0.5, 20, 100)
    assert shifted.mean > 10 * abs(found.mean)


def test_refuses():
    x = np.zeros((5, 2))
    with pytest.raises(DataError, match="n >= 2"):
        kernel_distance(x[:1], x)
    with pytest.raises(DataError, match="one size"):
        kernel_distance(x, np.zeros((5, 3)))
    with pytest.raises(DataError, match="blocks = 0"):
        kernel_distance(x, x, blocks=0)
