"""Nearest neighbours, and the balls around samples that reach them."""

from collections.abc import Iterator

import equinox as eqx
import numpy as np
from jaxtyping import Float64, Num

from pplemd.errors import DataError
from pplemd.metrics.validation import flat

CHUNK_ENTRIES = 1 << 22  # distances held at once: 32 MB as float64


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


class Region(eqx.Module):
    """Where a set of samples is: the union of the balls around them that reach their k-th neighbour."""

    centres: Float64[np.ndarray, "n d"]
    radii: Float64[np.ndarray, " n"]


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
