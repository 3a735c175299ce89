"""Precision and recall by balls around nearest neighbours."""

from collections.abc import Iterator

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float64, Num

from pplemd.errors import DataError
from pplemd.metrics.checks import flat, same_width

CHUNK_ENTRIES = 1 << 22  # distances held at once: 32 MB as float64


class PrecisionRecall(eqx.Module):
    """Fidelity and coverage of samples, both in [0, 1]."""

    precision: float  # share of the fake samples inside the real samples' region
    recall: float  # share of the real samples inside the fake samples' region


def distances(a: Float64[np.ndarray, "n d"], b: Float64[np.ndarray, "m d"]) -> Iterator[Float64[np.ndarray, "rows m"]]:
    """Distances from the rows of `a` to all of `b`, some rows at a time."""
    from scipy.spatial.distance import cdist  # here: it takes a third of a second, which a start would wait for

    rows = max(1, CHUNK_ENTRIES // len(b))
    for start in range(0, len(a), rows):
        yield cdist(a[start : start + rows], b)


def nearest(x: Float64[np.ndarray, "n d"], others: Float64[np.ndarray, "m d"]) -> Float64[np.ndarray, " n"]:
    """Distance from each row of `x` to the nearest of `others`; 0 for an exact copy."""
    from sklearn.metrics import pairwise_distances_argmin  # here: a start would wait for it

    centre = others.mean(axis=0)[None]  # squares of what lies far from 0 would lose what tells neighbours apart
    return np.linalg.norm(x - others[pairwise_distances_argmin(x - centre, others - centre)], axis=1)


def radii_of(x: Float64[np.ndarray, "n d"], k: int) -> Float64[np.ndarray, " n"]:
    """Distance from each sample to its k-th neighbour, itself not counted."""
    return np.concatenate([np.partition(block, k, axis=1)[:, k] for block in distances(x, x)])


def _inside(
    x: Float64[np.ndarray, "n d"], centres: Float64[np.ndarray, "m d"], radii: Float64[np.ndarray, " m"]
) -> Bool[np.ndarray, " n"]:
    """Whether each sample lies in some ball; a ball contains its boundary."""
    return np.concatenate([(block <= radii[None, :]).any(axis=1) for block in distances(x, centres)])


class Region(eqx.Module):
    """Where a set of samples is: the union of the balls around them that reach their k-th neighbour."""

    centres: Float64[np.ndarray, "n d"]
    radii: Float64[np.ndarray, " n"]

    def share(self, rows: Float64[np.ndarray, "m d"]) -> float:
        """Share of these samples inside.

        Raises:
            DataError: another dimension.
        """
        same_width(self.centres, rows)
        return float(_inside(rows, self.centres, self.radii).mean())


def region(x: Num[np.ndarray, "n *shape"], k: int, name: str = "samples") -> Region:
    """The region of a set of samples.

    Args:
        x: the samples.
        k: neighbours that set the radius.
        name: what a message calls them.

    Raises:
        DataError: k below 1, no more than k samples, NaN.
    """
    if k < 1:
        raise DataError(f"found k = {k} neighbours, expected at least 1: use 3")
    rows = flat(x, name, k + 1)
    return Region(rows, radii_of(rows, k))


def precision_recall(
    real: Num[np.ndarray, "n *shape_real"], fake: Num[np.ndarray, "m *shape_fake"], k: int = 3
) -> PrecisionRecall:
    """Improved precision and recall.

    A set's region is the union of the balls around its samples that reach their k-th neighbour. Precision is the share
    of fake samples in the real region, recall the share of real samples in the fake region. Both depend on the counts.

    Args:
        real: features of real samples, (n, d), n > k.
        fake: features of samples to judge, (m, d), m > k.
        k: neighbours that set the radius.

    Returns:
        Both shares.

    Raises:
        DataError: k below 1, no more than k samples in a set, unlike dimensions, NaN.

    Source: Kynkaanniemi et al., arXiv:1904.06991, equations 1 and 2.
    """
    around_real, around_fake = region(real, k, "real samples"), region(fake, k, "fake samples")
    return PrecisionRecall(around_real.share(around_fake.centres), around_fake.share(around_real.centres))
