"""Whether samples are copies of training samples."""

import numpy as np
from jaxtyping import Float64, Num

from pplemd.errors import DataError
from pplemd.metrics.checks import flat, same_width
from pplemd.metrics.neighbours import distances


def nearness(
    train: Num[np.ndarray, "n *shape_train"],
    held_out: Num[np.ndarray, "m *shape_held"],
    fake: Num[np.ndarray, "l *shape_fake"],
) -> float:
    """How near samples are to training samples: median distance to the nearest one, over that of held-out samples.

    About 1 where samples are as new as held-out data; well below, they copy the training data, or lie in its dense
    parts only: then precision is high and recall low. Exact copies give 0.

    Args:
        train: features of the training samples, (n, d).
        held_out: features of samples that nobody learned from, (m, d).
        fake: features of samples to judge, (l, d).

    Raises:
        DataError: an empty set, unlike dimensions, NaN, or held-out samples of which half are training samples.

    Source: Meehan et al., arXiv:2004.05675, whose test compares the same distances.
    """
    rows = [flat(x, name, 1) for x, name in ((train, "train"), (held_out, "held-out"), (fake, "samples"))]
    same_width(rows[0], rows[1])
    same_width(rows[0], rows[2])
    usual, found = (float(np.median(_nearest(x, rows[0]))) for x in rows[1:])
    if usual == 0:
        raise DataError("found half of the held-out samples among the training samples, expected others: split again")
    return found / usual


def _nearest(x: Float64[np.ndarray, "n d"], others: Float64[np.ndarray, "m d"]) -> Float64[np.ndarray, " n"]:
    return np.concatenate([block.min(axis=1) for block in distances(x, others)])
