"""Copies of training samples are seen; new samples are not taken for copies."""

import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.metrics import nearness

RNG = np.random.default_rng(0)
TRAIN, HELD_OUT, NEW = (RNG.standard_normal((count, 4)) for count in (400, 200, 300))


def test_new_samples_are_as_near_as_held_out_ones():
    assert nearness(TRAIN, HELD_OUT, NEW) == pytest.approx(1.0, abs=0.1)
    assert nearness(TRAIN, HELD_OUT, HELD_OUT) == 1.0


def test_copies_and_near_copies():
    assert nearness(TRAIN, HELD_OUT, TRAIN[:50]) == 0
    near = TRAIN[:200] + 0.02 * RNG.standard_normal((200, 4))
    assert nearness(TRAIN, HELD_OUT, near) < 0.2
    assert nearness(TRAIN, HELD_OUT, 3 * NEW) > 1.5
    assert nearness(TRAIN + 1e8, HELD_OUT + 1e8, TRAIN[:50] + 1e8) == 0  # squares of which hold no units


def test_agrees_with_the_definition():
    nearest = lambda x: np.median([min(np.linalg.norm(row - t) for t in TRAIN) for row in x])  # noqa: E731
    assert nearness(TRAIN, HELD_OUT[:30], NEW[:40]) == pytest.approx(nearest(NEW[:40]) / nearest(HELD_OUT[:30]))


def test_refuses():
    with pytest.raises(DataError, match="one size"):
        nearness(TRAIN, HELD_OUT, NEW[:, :2])
    with pytest.raises(DataError, match="half of the held-out"):
        nearness(TRAIN, TRAIN[:10], NEW)
