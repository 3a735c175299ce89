"""Precision and recall by balls around nearest neighbours."""

from collections.abc import Iterator

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float64, Num
from scipy.spatial.distance import cdist

from pplemd.errors import DataError
from pplemd.metrics.checks import flat, same_width

CHUNK_ENTRIES = 1 << 22  # distances held at once: 32 MB as float64


class PrecisionRecall(eqx.Module):
    """Fidelity and coverage of samples, both in [0, 1]."""

    precision: float  # share of the fake samples inside the real samples' region
    recall: float  # share of the real samples inside the fake samples' region


def distances(a: Float64[np.ndarray, "n d"], b: Float64[np.ndarray, "m d"]) -> Iterator[Float64[np.ndarray, "rows m"]]:
    """Distances from the rows of `a` to all of `b`, some rows at a time."""
    rows = max(1, CHUNK_ENTRIES // len(b))
    for start in range(0, len(a), rows):
        yield cdist(a[start : start + rows], b)


def radii_of(x: Float64[np.ndarray, "n d"], k: int) -> Float64[np.ndarray, " n"]:
    """Distance from each sample to its k-th neighbour, itself not counted."""
    return np.concatenate([np.partition(block, k, axis=1)[:, k] for block in distances(x, x)])


def _inside(
    x: Float64[np.ndarray, "n d"], centres: Float64[np.ndarray, "m d"], radii: Float64[np.ndarray, " m"]
) -> Bool[np.ndarray, " n"]:
    """Whether each sample lies in some ball; a ball contains its boundary."""
    return np.concatenate([(block <= radii[None, :]).any(axis=1) for block in distances(x, centres)])


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
    if k < 1:
        raise DataError(f"found k = {k} neighbours, expected at least 1: use 3")
    rows_real, rows_fake = flat(real, "real samples", k + 1), flat(fake, "fake samples", k + 1)
    same_width(rows_real, rows_fake)
    precision = _inside(rows_fake, rows_real, radii_of(rows_real, k)).mean()
    recall = _inside(rows_real, rows_fake, radii_of(rows_fake, k)).mean()
    return PrecisionRecall(float(precision), float(recall))
