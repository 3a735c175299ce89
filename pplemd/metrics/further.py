"""Figures of features that stand beside the Frechet distance, precision and recall in every evaluation of images."""

import numpy as np
from jaxtyping import Int, Num

from pplemd.metrics.balls import Balls
from pplemd.metrics.kernel import kernel_distance


def further_figures(
    real: Num[np.ndarray, "n *shape_real"],
    fake: Num[np.ndarray, "m *shape_fake"],
    label: Int[np.ndarray, " n"] | None,
    around: Balls,
    seed: int,
) -> dict[str, float]:
    """density, coverage, kid, and class_recall, the recall of the class that is covered least, where labels are known.

    Args:
        real: features of real samples, (n, d).
        fake: features of samples to judge, (m, d).
        label: classes of the real samples, or None.
        around: what the balls of the two sets contain of each other.
        seed: of the blocks of kid.
    """
    kid = kernel_distance(fake, real, blocks=10, seed=seed).mean  # one block where there are no more than 1,000 samples
    figures = {"density": around.density, "coverage": around.coverage, "kid": kid}
    return figures if label is None else figures | {"class_recall": min(around.recall_of(label).values())}
