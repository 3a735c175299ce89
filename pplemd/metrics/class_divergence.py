"""How evenly samples fall into classes."""

import numpy as np
from jaxtyping import Float, Int
from scipy.special import rel_entr

from pplemd.errors import DataError

SMOOTHING = 1e-6  # probability added to every reference class: one that it lacks costs about 14 nats a unit of mass


def class_kl(
    labels: Int[np.ndarray, " n"], reference_probabilities: Float[np.ndarray, " n_reference"], classes: int
) -> float:
    """KL(histogram of the labels || reference) in nats.

    sum_c h_c log(h_c / r_c) with r_c = (reference_c + 1e-6) / (1 + 1e-6 classes): the reference alone is smoothed, so
    that the figure stays finite; a class that the labels lack adds nothing to the sum. Labels drawn from the reference
    itself give (classes - 1) / (2 n) on average, not 0.

    Args:
        labels: class index of each sample, in [0, classes).
        reference_probabilities: share of each class, (classes,), summing to 1.
        classes: number of classes.

    Returns:
        The divergence in nats, at least 0.

    Raises:
        DataError: no labels, a label out of range, or probabilities that are not `classes` shares of 1.
    """
    found = reference_probabilities
    if found.shape != (classes,) or not (found.min() >= 0.0 and abs(found.sum() - 1.0) < 1e-4):
        raise DataError(
            f"found reference probabilities of shape {found.shape} and sum {found.sum():.4g}, expected {classes} "
            "shares of 1: divide the class counts by their sum"
        )
    if labels.size == 0 or not 0 <= labels.min() <= labels.max() < classes:
        shown = "no labels" if labels.size == 0 else f"labels in [{labels.min()}, {labels.max()}]"
        raise DataError(f"found {shown}, expected class indices in [0, {classes}): check the labels and `classes`")
    share = np.bincount(labels, minlength=classes) / len(labels)
    smoothed = (found.astype(np.float64) + SMOOTHING) / (found.sum() + SMOOTHING * classes)
    return float(rel_entr(share, smoothed).sum())
