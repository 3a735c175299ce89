import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.metrics import balls, neighbours


def _share_inside(points, centres, k):
    """The definition, one pair at a time."""
    inside = 0
    for point in points:
        for i, centre in enumerate(centres):
            others = sorted(np.linalg.norm(centre - other) for j, other in enumerate(centres) if j != i)
            if np.linalg.norm(point - centre) <= others[k - 1]:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("chunk", [1, 1 << 22])
def test_agrees_with_the_definition(monkeypatch, k, chunk):
    monkeypatch.setattr(neighbours, "CHUNK_ENTRIES", chunk)
    rng = np.random.default_rng(k)
    real, fake = rng.standard_normal((60, 4)), 0.7 * rng.standard_normal((45, 4)) + 0.5
    found = balls(real, fake, k)
    assert found.precision == _share_inside(fake, real, k)
    assert found.recall == _share_inside(real, fake, k)
    assert 0.0 < found.recall < 1.0
    assert found.precision != found.recall


def test_equal_and_distant_sets():
    x = np.random.default_rng(0).standard_normal((50, 2))
    same, far = balls(x, x, 3), balls(x, x + 100.0, 3)
    assert (same.precision, same.recall) == (1.0, 1.0)
    assert (far.precision, far.recall) == (0.0, 0.0)


def test_a_dropped_mode_lowers_recall_and_an_invented_one_precision():
    rng = np.random.default_rng(0)
    both = np.concatenate([rng.standard_normal((200, 2)), rng.standard_normal((200, 2)) + 20.0])
    one = rng.standard_normal((400, 2))
    dropped, invented = balls(both, one, 3), balls(one, both, 3)
    assert dropped.precision > 0.9
    assert 0.4 < dropped.recall <= 0.5
    assert invented.recall > 0.9
    assert 0.4 < invented.precision <= 0.5


def test_a_collapsed_set_has_no_recall():
    rng = np.random.default_rng(0)
    real = rng.standard_normal((100, 2))
    found = balls(real, np.repeat(real[:1], 30, axis=0), 3)
    assert (found.precision, found.recall) == (1.0, 0.01)


def test_refuses():
    x = np.zeros((5, 2))
    with pytest.raises(DataError, match="n >= 6"):
        balls(x, np.zeros((9, 2)), 5)
    with pytest.raises(DataError, match="at least 1"):
        balls(x, x, 0)
    with pytest.raises(DataError, match="one size"):
        balls(x, np.zeros((5, 3)), 3)
    with pytest.raises(DataError, match="NaN"):
        balls(x, np.full((5, 2), np.nan), 3)
