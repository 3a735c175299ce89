"""Density, coverage and recall by class, against their definitions one pair at a time."""

import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.metrics import balls, neighbours


def _radius(centres, i, k):
    return sorted(np.linalg.norm(centres[i] - other) for j, other in enumerate(centres) if j != i)[k - 1]


def _inside(point, centres, i, k):
    return np.linalg.norm(point - centres[i]) <= _radius(centres, i, k)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("chunk", [1, 1 << 22])
def test_agrees_with_the_definition(monkeypatch, k, chunk):
    monkeypatch.setattr(neighbours, "CHUNK_ENTRIES", chunk)
    rng = np.random.default_rng(k)
    real, fake = rng.standard_normal((50, 3)), 0.7 * rng.standard_normal((40, 3)) + 0.5
    label = rng.integers(0, 3, 50)
    found = balls(real, fake, k)
    pairs = np.array([[_inside(y, real, i, k) for i in range(50)] for y in fake])
    assert found.density == pytest.approx(pairs.sum() / (k * 40))
    assert found.coverage == pairs.any(axis=0).mean()
    reached = np.array([any(_inside(x, fake, j, k) for j in range(40)) for x in real])
    assert (found.precision, found.recall) == (pairs.any(axis=1).mean(), reached.mean())
    assert found.recall_of(label) == {c: reached[label == c].mean() for c in range(3)}
    assert 0 < found.coverage < 1


def test_real_samples_have_density_one_and_the_known_coverage():
    """E coverage = 1 - prod (N - i) / (2 N - i), about 1 - 2^-k, for equal counts: arXiv:2002.09797, section 3.3."""
    rng = np.random.default_rng(0)
    count, k = 2000, 5
    found = balls(rng.standard_normal((count, 4)), rng.standard_normal((count, 4)), k)
    places = np.arange(1, k + 1)
    expected = 1 - np.prod((count - places) / (2 * count - places))
    assert found.coverage == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / count))
    assert found.density == pytest.approx(1.0, abs=0.05)


def test_one_sample_far_out_raises_precision_and_not_density():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.standard_normal((200, 2)), [[8.0, 8.0]]])
    fake = np.full((200, 2), 4.0) + 0.1 * rng.standard_normal((200, 2))
    found = balls(real, fake, 5)
    assert found.precision > 0.9
    assert found.density < 0.5
    assert found.coverage < 0.02


def test_a_class_that_is_lost():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.standard_normal((100, 2)), rng.standard_normal((100, 2)) + 20])
    found = balls(real, rng.standard_normal((200, 2)), 3).recall_of(np.repeat([0, 1], 100))
    assert found[0] > 0.9
    assert found[1] == 0


def test_refuses():
    x = np.zeros((5, 2))
    with pytest.raises(DataError, match="n >= 6"):
        balls(x, np.zeros((9, 2)), 5)
    with pytest.raises(DataError, match="at least 1"):
        balls(x, x, 0)
    with pytest.raises(DataError, match="one size"):
        balls(x, np.zeros((5, 3)), 3)
