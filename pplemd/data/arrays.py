"""Images from an .npz file."""

import struct
import zipfile
import zlib
from os import PathLike

import numpy as np
from jaxtyping import Float32, Int32

from pplemd.data.dataset import Dataset, Split, held_out
from pplemd.errors import DataError

MAX_MEMBER_BYTES = 8 << 30  # of one array, unpacked: above it, a zip bomb is likelier than a data set for one machine
IMAGE_KEYS = ("x_train", "images", "x", "arr_0")
LABEL_KEYS = ("y_train", "labels", "y")
TEST_KEYS = ("x_test", "y_test")
_READ_ERRORS = (
    OSError, ValueError, EOFError, KeyError, MemoryError, OverflowError, RuntimeError, struct.error, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip


def _read(path: str | PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of the file under the known keys; nothing is unpickled."""
    wanted = IMAGE_KEYS + LABEL_KEYS + TEST_KEYS
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
        large = [name for name in wanted if sizes.get(name, 0) > MAX_MEMBER_BYTES]
        if large:
            raise DataError(
                f"found {sizes[large[0]] / 2**30:.3g} GiB in the array {large[0]!r} of {path}, expected at most "
                f"{MAX_MEMBER_BYTES / 2**30:.3g} GiB: split the file or make the images smaller"
            )
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in wanted if name in file.files}
    except FileNotFoundError as error:
        raise DataError(f"found no file {path}, expected an .npz of images: check the path") from error
    except _READ_ERRORS as error:
        raise DataError(
            f"found {path} unreadable ({type(error).__name__}: {error}), expected an .npz of plain numeric arrays: "
            "write it again with np.savez(path, images=..., labels=...)"
        ) from error
    if not any(name in found for name in IMAGE_KEYS):
        raise DataError(
            f"found the arrays {sorted(sizes)} in {path}, expected images under one of {', '.join(IMAGE_KEYS)}: "
            "write it again with np.savez(path, images=..., labels=...)"
        )
    return found


def _float_range(x: np.ndarray, float_range: tuple[float, float] | None) -> tuple[float, float]:
    if float_range is not None:
        return float_range
    if x.size and x.min() >= 0.0:
        raise DataError(
            f"found floats in [{x.min():.4g}, {x.max():.4g}], which may mean [0, 1] or [-1, 1]: "
            "pass float_range=(0.0, 1.0) or float_range=(-1.0, 1.0), or to `pplemd fid` --range 0,1 or --range=-1,1"
        )
    return (-1.0, 1.0)


def _images(x: np.ndarray, name: str, float_range: tuple[float, float] | None) -> Float32[np.ndarray, "n h w c"]:
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4:
        raise DataError(f"found {name} of shape {x.shape}, expected (n, h, w) or (n, h, w, c): reshape it")
    if x.shape[3] > 4 >= x.shape[1]:
        raise DataError(
            f"found {name} of shape {x.shape}, which looks like channels first, expected (n, h, w, c): "
            "save x.transpose(0, 2, 3, 1)"
        )
    if x.dtype == np.uint8:
        low, high = 0.0, 255.0
    elif np.issubdtype(x.dtype, np.floating):
        low, high = _float_range(x, float_range)
    else:
        raise DataError(f"found {name} of dtype {x.dtype}, expected uint8 or floats: cast it")
    if not low < high:
        raise DataError(f"found float_range = ({low}, {high}), expected low < high: pass (0.0, 1.0) or (-1.0, 1.0)")
    scale, shift = np.float32(2.0 / (high - low)), np.float32(-(high + low) / (high - low))
    return x.astype(np.float32) * scale + shift


def _labels(found: np.ndarray, name: str) -> Int32[np.ndarray, " n"]:
    label = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    if label.ndim != 1 or not np.issubdtype(label.dtype, np.integer):
        raise DataError(f"found {name} of shape {label.shape} and dtype {label.dtype}, expected (n,) class indices")
    if label.size and not 0 <= int(label.min()) <= int(label.max()) < 2**31:
        raise DataError(f"found {name} in [{label.min()}, {label.max()}], expected class indices from 0: renumber them")
    return label.astype(np.int32)


def npz(
    path: str | PathLike[str],
    *,
    float_range: tuple[float, float] | None = None,
    test_fraction: float = 0.25,
    seed: int = 0,
) -> Dataset:
    """Images from an .npz file, with labels where it has them.

    Arrays read: images under x_train, images, x or arr_0 (the first found), labels under y_train, labels or y; x_test
    and y_test where the file brings its own test split. Nothing is unpickled.

    Args:
        path: the file. Images are (n, h, w) or (n, h, w, c): uint8 in 0..255, or floats.
        float_range: what black and white are among floats, such as (0.0, 1.0). By default (-1.0, 1.0), and refused
            where no float is negative, since [0, 1] is then as likely.
        test_fraction: share held out where the file has no x_test.
        seed: seed of that split.

    Returns:
        The images in [-1, 1], (n, h, w, c), with as many classes as the largest label plus one.

    Raises:
        DataError: a file that is missing, truncated or holds pickled objects; no images; a wrong shape, dtype, range
            or label count.
    """
    found = _read(path)
    name = next(key for key in IMAGE_KEYS if key in found)
    name_label = next((key for key in LABEL_KEYS if key in found), None)
    x = _images(found[name], name, float_range)
    label = None if name_label is None else _labels(found[name_label], name_label)
    if "x_test" not in found:
        return held_out(x, label, test_fraction=test_fraction, seed=seed)
    x_test = _images(found["x_test"], "x_test", float_range)
    label_test = _labels(found["y_test"], "y_test") if "y_test" in found else None
    train, test = Split(x, label), Split(x_test, label_test)
    tops = [int(split.label.max()) for split in (train, test) if split.label is not None]
    return Dataset(train, test, max(tops) + 1 if tops else None)


def npz_images(
    path: str | PathLike[str], *, float_range: tuple[float, float] | None = None
) -> Float32[np.ndarray, "n h w c"]:
    """All images of an .npz file, not split: those of x_train, images, x or arr_0, in [-1, 1].

    Args:
        path: the file, such as `pplemd sample --out x.npz` writes it.
        float_range: what black and white are among floats, as of `npz`.

    Raises:
        DataError: as of `npz`.
    """
    found = _read(path)
    name = next(key for key in IMAGE_KEYS if key in found)
    return _images(found[name], name, float_range)
