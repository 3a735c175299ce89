"""Nearest neighbours: density and coverage by balls around samples, and whether samples are copies."""

from collections.abc import Iterator

import equinox as eqx
import numpy as np
from jaxtyping import Float64, Int, Num

from pplemd.errors import DataError
from pplemd.metrics.base import flat, same_width

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


class Balls(eqx.Module):
    """What balls around samples that reach their k-th neighbour contain of the other set.

    Source: Kynkaanniemi et al., arXiv:1904.06991, equations 1 and 2 (precision, recall); Naeem et al.,
        arXiv:2002.09797, equations 3 and 4 (density, coverage).
    """

    real_around: Int[np.ndarray, " m"]  # of each fake sample, the real balls that contain it
    fake_around: Int[np.ndarray, " n"]  # of each real sample, the fake balls that contain it
    covered: Int[np.ndarray, " n"]  # of each real sample's own ball, the fake samples in it
    k: int  # neighbours that set the radius

    @property
    def precision(self) -> float:
        """Share of fake samples in some real ball."""
        return float((self.real_around > 0).mean())

    @property
    def recall(self) -> float:
        """Share of real samples in some fake ball."""
        return float((self.fake_around > 0).mean())

    @property
    def density(self) -> float:
        """Mean number of real balls around a fake sample, over k: about 1 for real samples, above it in dense parts.

        A single real sample far out, whose ball is wide, raises precision to 1; it counts once here.
        """
        return float(self.real_around.mean() / self.k)

    @property
    def coverage(self) -> float:
        """Share of real samples with a fake sample in their ball; 1 - 2^-k for real samples of equal count."""
        return float((self.covered > 0).mean())

    def recall_of(self, label: Int[np.ndarray, " n"]) -> dict[int, float]:
        """Recall by class: of the real samples of each label, the share in some fake ball."""
        found = self.fake_around > 0
        return {int(c): float(found[label == c].mean()) for c in np.unique(label)}


def balls(real: Num[np.ndarray, "n *shape_real"], fake: Num[np.ndarray, "m *shape_fake"], k: int = 5) -> Balls:
    """Count what the balls of two sets contain of each other; a ball contains its boundary.

    Args:
        real: features of real samples, (n, d), n > k.
        fake: features of samples to judge, (m, d), m > k.
        k: neighbours that set the radius; figures depend on it and on the counts.

    Raises:
        DataError: k below 1, no more than k samples in a set, unlike dimensions, NaN.
    """
    return balls_around(region(real, k, "real samples"), fake, k)


def balls_around(real: Region, fake: Num[np.ndarray, "m *shape"], k: int) -> Balls:
    """As `balls`, of real samples whose region is known already, for the same k.

    Raises:
        DataError: as of `balls`.
    """
    around = region(fake, k, "fake samples")
    same_width(real.centres, around.centres)
    real_around, fake_around, covered = [], np.zeros(len(real.centres), int), np.zeros(len(real.centres), int)
    done = 0
    for block in distances(around.centres, real.centres):
        inside = block <= real.radii[None, :]
        real_around.append(inside.sum(axis=1))
        covered += inside.sum(axis=0)
        fake_around += (block <= around.radii[done : done + len(block), None]).sum(axis=0)
        done += len(block)
    return Balls(np.concatenate(real_around), fake_around, covered, k)


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
