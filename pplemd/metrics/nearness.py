"""Whether samples are copies of training samples."""

import equinox as eqx
import numpy as np
from jaxtyping import Float64, Num

from pplemd.errors import DataError
from pplemd.metrics.neighbours import nearest
from pplemd.metrics.validation import flat, same_width


class CopyTest(eqx.Module):
    """Training samples, and how near to them samples are that nobody learned from."""

    train: Float64[np.ndarray, "n d"]
    usual: float  # median distance from a held-out sample to the nearest training sample

    def nearness(self, fake: Num[np.ndarray, "l *shape"]) -> float:
        """Median distance from a sample to the nearest training sample, over the usual one.

        Raises:
            DataError: no samples, another dimension, NaN.
        """
        rows = flat(fake, "samples", 1)
        same_width(self.train, rows)
        return float(np.median(nearest(rows, self.train))) / self.usual


def copy_test(train: Num[np.ndarray, "n *shape_train"], held_out: Num[np.ndarray, "m *shape_held"]) -> CopyTest:
    """What `nearness` needs of the data, found once for any number of samples.

    Args:
        train: features of the training samples, (n, d).
        held_out: features of samples that nobody learned from, (m, d).

    Raises:
        DataError: an empty set, unlike dimensions, NaN, or held-out samples of which half are training samples.
    """
    seen, new = flat(train, "train", 1), flat(held_out, "held-out", 1)
    same_width(seen, new)
    usual = float(np.median(nearest(new, seen)))
    if usual == 0:
        raise DataError("found half of the held-out samples among the training samples, expected others: split again")
    return CopyTest(seen, usual)


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
    return copy_test(train, held_out).nearness(fake)
