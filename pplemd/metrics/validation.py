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


def in_deviations(
    real: Float64[np.ndarray, "n d"], fake: Float64[np.ndarray, "m d"]
) -> tuple[Float64[np.ndarray, "n c"], Float64[np.ndarray, "m c"]]:
    """Both sets in standard deviations of the real one, from its mean.

    What never varies among the real samples is in standard deviations of the other ones; what varies in neither and is
    the same in both is left out.

    Raises:
        DataError: nothing is left.
    """
    spread = real.std(axis=0)
    spread = np.where(spread > 0, spread, fake.std(axis=0))
    varying = (spread > 0) | (real[0] != fake[0])
    if not varying.any():
        raise DataError(
            "found two sets of samples that are one point, expected samples that vary: check what made them"
        )
    centre, units = real.mean(axis=0)[None, varying], np.where(spread > 0, spread, 1.0)[None, varying]
    return (real[:, varying] - centre) / units, (fake[:, varying] - centre) / units


def same_width(a: Float64[np.ndarray, "n d_a"], b: Float64[np.ndarray, "m d_b"]) -> None:
    """Refuse two sets of samples of unlike dimension.

    Raises:
        DataError: the widths differ.
    """
    if a.shape[1] != b.shape[1]:
        raise DataError(
            f"found samples of {a.shape[1]} and of {b.shape[1]} numbers, expected one size: check the shapes"
        )
