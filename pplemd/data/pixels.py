"""Arrays of images, as they are saved, to floats in [-1, 1]."""

import numpy as np
from jaxtyping import Float32, Shaped

from pplemd.data.naming import check_finite
from pplemd.errors import DataError

CHANNELS = (1, 3, 4)  # of grey images, colours, colours with alpha


def pixels(
    x: Shaped[np.ndarray, "..."], float_range: tuple[float, float] | None = None
) -> Float32[np.ndarray, "n h w c"]:
    """Images in [-1, 1].

    Args:
        x: images, (n, h, w) or (n, h, w, c): bytes in 0..255, or other numbers.
        float_range: what black and white are among numbers that are no bytes. By default (-1.0, 1.0) for floats, and
            refused where no float is negative, since [0, 1] is then as likely.

    Raises:
        DataError: a shape that is no stack of images or may be one image, NaN, or a range that is in doubt.
    """
    x = _stacked(x)
    check_finite(x)
    low, high = (0.0, 255.0) if x.dtype == np.uint8 else float_range or _usual_range(x)
    if not low < high:
        raise DataError(f"found float_range = ({low}, {high}), expected low < high: pass (0.0, 1.0) or (-1.0, 1.0)")
    scale, shift = np.float32(2.0 / (high - low)), np.float32(-(high + low) / (high - low))
    return x.astype(np.float32) * scale + shift


def _stacked(x: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "n h w c"]:
    """The images with an axis of channels, last."""
    if x.dtype.kind not in "buif":
        raise DataError(f"found images of dtype {x.dtype}, expected uint8 or floats: save numbers")
    if x.ndim == 3:
        _check_several(x.shape)
        x = x[..., None]
    if x.ndim != 4:
        one = "; of one image, save x[None]" if x.ndim == 2 else ""
        raise DataError(f"found images of shape {x.shape}, expected (n, h, w) or (n, h, w, c): reshape them{one}")
    if x.shape[3] > 4 >= x.shape[1]:
        raise DataError(
            f"found images of shape {x.shape}, which look like channels first, expected (n, h, w, c): "
            "save x.transpose(0, 2, 3, 1)"
        )
    return x


def _check_several(shape: tuple[int, ...]) -> None:
    """See that a stack of grey images is not one image with its channels.

    Raises:
        DataError: where it may be either.
    """
    last = shape[2] in CHANNELS and shape[1] != shape[2]
    first = shape[0] == 3 and min(shape[1:]) > max(CHANNELS)  # colours first
    if not last and not first:
        return
    one, alone = (shape[:2], "x[None]") if last else (shape[1:], "x.transpose(1, 2, 0)[None]")
    channels = shape[2] if last else shape[0]
    raise DataError(
        f"found images of shape {shape}, which may be one image of {one[0]} x {one[1]} with {channels} channels, or "
        f"{shape[0]} grey images of {shape[1]} x {shape[2]}; expected (n, h, w, c): save {alone} of the one, or "
        "x[..., None] of the others"
    )


def _usual_range(x: Shaped[np.ndarray, "n h w c"]) -> tuple[float, float]:
    """Black and white of floats; of whole numbers, which may use any part of their range, they must be said."""
    if x.dtype.kind != "f":
        white = np.iinfo(x.dtype).max if x.dtype.kind == "u" else 1 if x.dtype.kind == "b" else 255
        found = f" in [{int(x.min())}, {int(x.max())}]" if x.size else ""
        raise DataError(
            f"found images of dtype {x.dtype}{found}, expected uint8 or floats: say what black and white are, as by "
            f"float_range=(0.0, {white}.0), to `pplemd fid` by --range 0,{white}; a "
            "plain cast to uint8 would wrap around"
        )
    if x.size and x.min() >= 0.0:
        raise DataError(
            f"found floats in [{x.min():.4g}, {x.max():.4g}], which may mean [0, 1] or [-1, 1]: "
            "pass float_range=(0.0, 1.0) or float_range=(-1.0, 1.0), or to `pplemd fid` --range 0,1 or --range=-1,1"
        )
    return (-1.0, 1.0)
