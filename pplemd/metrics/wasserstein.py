"""The sliced Wasserstein distance."""

import numpy as np
from jaxtyping import Float64, Num

from pplemd.errors import DataError
from pplemd.metrics.validation import flat, same_width


def _quantile_distance(
    a: Float64[np.ndarray, "n p"], b: Float64[np.ndarray, "m p"], order: int
) -> Float64[np.ndarray, " p"]:
    """Order-th power of each column's Wasserstein distance: the integral of |F_a^-1 - F_b^-1|^order, for any counts."""
    a, b = np.sort(a, axis=0), np.sort(b, axis=0)
    if len(a) == len(b):
        return (np.abs(a - b) ** order).mean(axis=0)
    steps = np.union1d(np.arange(len(a) + 1) / len(a), np.arange(len(b) + 1) / len(b))
    middles = (steps[1:] + steps[:-1]) / 2.0  # both quantile functions are constant between steps
    quantiles_a = a[np.minimum((middles * len(a)).astype(int), len(a) - 1)]
    quantiles_b = b[np.minimum((middles * len(b)).astype(int), len(b) - 1)]
    return np.diff(steps) @ np.abs(quantiles_a - quantiles_b) ** order


def sliced_wasserstein(
    a: Num[np.ndarray, "n *shape_a"],
    b: Num[np.ndarray, "m *shape_b"],
    projections: int = 128,
    seed: int = 0,
    order: int = 2,
) -> float:
    """The sliced Wasserstein distance: 1-D distances W_p of random directions, SW_p = (mean W_p^p)^(1/p).

    In one dimension it is the Wasserstein distance itself, |s| for a shift by s. An estimate needs its floor beside it:
    between separate modes the sampling noise of SW_2 falls as n^-1/4 only, that of SW_1 as n^-1/2.

    Args:
        a: samples of one set, (n, d).
        b: samples of the other, (m, d).
        projections: number of directions, uniform on the sphere.
        seed: seed of the directions.
        order: p, 1 or 2.

    Returns:
        The distance in units of the data.

    Raises:
        DataError: no samples, unlike dimensions, NaN, no projections, or an order that is neither 1 nor 2.

    Source: Bonneel et al., J. Mathematical Imaging and Vision 51 (2015), section 3.
    """
    if projections < 1:
        raise DataError(f"found projections = {projections}, expected at least 1: use 128")
    if order not in (1, 2):
        raise DataError(f"found order = {order}, expected 1 or 2")
    rows_a, rows_b = flat(a, "samples"), flat(b, "samples")
    same_width(rows_a, rows_b)
    directions = np.random.default_rng(seed).standard_normal((rows_a.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)[None, :]
    return float(_quantile_distance(rows_a @ directions, rows_b @ directions, order).mean() ** (1 / order))
