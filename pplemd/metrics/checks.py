"""The one check that every metric makes of its samples."""

import numpy as np
from jaxtyping import Float64, Num

from pplemd.errors import DataError


def flat(x: Num[np.ndarray, "n *shape"], name: str, least: int = 1) -> Float64[np.ndarray, "n d"]:
    """The samples as finite float64 rows.

    Args:
        x: samples of any shape.
        name: what the message calls them.
        least: how many samples the metric needs.

    Raises:
        DataError: too few samples, no batch dimension, NaN or infinity.
    """
    if x.ndim < 2 or len(x) < least:
        raise DataError(f"found {name} of shape {x.shape}, expected (n, ...) with n >= {least}: pass more samples")
    rows = x.reshape(len(x), -1).astype(np.float64)
    bad = int((~np.isfinite(rows)).any(axis=1).sum())
    if bad:
        raise DataError(
            f"found NaN or infinity in {bad} of {len(x)} {name}, expected finite numbers: "
            "if a model made them, lower its learning rate or step size"
        )
    return rows


def same_width(a: Float64[np.ndarray, "n d_a"], b: Float64[np.ndarray, "m d_b"]) -> None:
    """Refuse two sets of samples of unlike dimension.

    Raises:
        DataError: the widths differ.
    """
    if a.shape[1] != b.shape[1]:
        raise DataError(
            f"found samples of {a.shape[1]} and of {b.shape[1]} numbers, expected one size: check the shapes"
        )
