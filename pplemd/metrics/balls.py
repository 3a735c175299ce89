"""Density and coverage: what the balls around samples contain, counted."""

import equinox as eqx
import numpy as np
from jaxtyping import Int, Num

from pplemd.metrics.neighbours import Region, distances, region
from pplemd.metrics.validation import same_width


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
