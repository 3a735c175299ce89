"""The sliced Wasserstein distance."""

import numpy as np
from jaxtyping import Float64, Num

from pplemd.errors import DataError
from pplemd.metrics.checks import flat, same_width


def _quantile_distance(a: Float64[np.ndarray, "n p"], b: Float64[np.ndarray, "m p"]) -> Float64[np.ndarray, " p"]:
    """1-Wasserstein distance of each column: the integral of |F_a^-1 - F_b^-1|, exact for any counts."""
    a, b = np.sort(a, axis=0), np.sort(b, axis=0)
    if len(a) == len(b):
        return np.abs(a - b).mean(axis=0)
    steps = np.union1d(np.arange(len(a) + 1) / len(a), np.arange(len(b) + 1) / len(b))
    middles = (steps[1:] + steps[:-1]) / 2.0  # both quantile functions are constant between steps
    quantiles_a = a[np.minimum((middles * len(a)).astype(int), len(a) - 1)]
    quantiles_b = b[np.minimum((middles * len(b)).astype(int), len(b) - 1)]
    return np.diff(steps) @ np.abs(quantiles_a - quantiles_b)


def sliced_wasserstein(
    a: Num[np.ndarray, "n *shape_a"], b: Num[np.ndarray, "m *shape_b"], projections: int = 128, seed: int = 0
) -> float:
    """The sliced 1-Wasserstein distance: the mean of 1-D distances over random directions.

    In one dimension it is the 1-Wasserstein distance itself, |s| for a shift by s. The first power is taken because its
    sampling noise falls as n^-1/2 also between separate modes, where that of the second power falls as n^-1/4.

    Args:
        a: samples of one set, (n, d).
        b: samples of the other, (m, d).
        projections: number of directions, uniform on the sphere.
        seed: seed of the directions.

    Returns:
        The distance in units of the data.

    Raises:
        DataError: no samples, unlike dimensions, NaN, or no projections.

    Source: Bonneel et al., J. Mathematical Imaging and Vision 51 (2015), section 3.
    """
    if projections < 1:
        raise DataError(f"found projections = {projections}, expected at least 1: use 128")
    rows_a, rows_b = flat(a, "samples"), flat(b, "samples")
    same_width(rows_a, rows_b)
    directions = np.random.default_rng(seed).standard_normal((rows_a.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)[None, :]
    return float(_quantile_distance(rows_a @ directions, rows_b @ directions).mean())
