"""The kernel distance of features: a polynomial maximum mean discrepancy, unbiased at every count."""

import equinox as eqx
import numpy as np
from jaxtyping import Float64, Num

from pplemd.errors import DataError
from pplemd.metrics.validation import flat, same_width


class KernelDistance(eqx.Module):
    """The squared discrepancy over blocks of samples."""

    mean: float  # over blocks; of either sign where the distributions are one
    std: float | None  # over blocks, of one block's figure, not of the mean; None of one block


def kernel_distance(
    features_a: Num[np.ndarray, "n *shape_a"],
    features_b: Num[np.ndarray, "m *shape_b"],
    blocks: int = 100,
    size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """The kernel Inception distance (KID) on any features: MMD^2 with k(x, y) = (x . y / d + 1)^3.

    Each block draws `size` samples of both without replacement, or all where there are fewer, and takes the mean of k
    over pairs of different samples: its expectation is the squared discrepancy itself, at any count, so that figures of
    unlike counts may be compared, as those of the Frechet distance may not.

    Args:
        features_a: features of one set, (n, d), n >= 2.
        features_b: features of the other, (m, d), m >= 2.
        blocks: how many blocks.
        size: samples of each set in a block.
        seed: of the blocks.

    Raises:
        DataError: fewer than two samples, no block, unlike dimensions, NaN.

    Source: Binkowski et al., arXiv:1801.01401, section 4; the estimator is Gretton et al., JMLR 13 (2012), equation 3.
    """
    a, b = flat(features_a, "features", 2), flat(features_b, "features", 2)
    same_width(a, b)
    if blocks < 1 or size < 2:
        raise DataError(f"found blocks = {blocks} of size = {size}, expected 1 or more of 2 or more: use 100 of 1,000")
    rng = np.random.default_rng(seed)
    whole = size >= max(len(a), len(b))  # every block would be the same
    found = [squared_mmd(_some(a, size, rng), _some(b, size, rng)) for _ in range(1 if whole else blocks)]
    return KernelDistance(float(np.mean(found)), float(np.std(found)) if len(found) > 1 else None)


def squared_mmd(a: Float64[np.ndarray, "n d"], b: Float64[np.ndarray, "m d"]) -> float:
    """The unbiased estimate of MMD^2 with k(x, y) = (x . y / d + 1)^3."""
    own = sum((kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1)) for x in (a, b) for kernel in [_cubic(x, x)])
    return float(own - 2 * _cubic(a, b).mean())


def _cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _some(x: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return x[rng.choice(len(x), min(size, len(x)), replace=False)]
