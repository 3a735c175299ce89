"""Images from an .npz file, their pixels as floats in [-1, 1]."""

import logging
import struct
import zipfile
import zlib
from os import PathLike
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32, Shaped

from pplemd.data.dataset import Dataset, Split, check_finite, held_out, listed, naming
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


logger = logging.getLogger("pplemd")

MAX_MEMBER_BYTES = 8 << 30  # of one array, unpacked: above it, a zip bomb is likelier than a data set for one machine
# Names in lower case, the first that is found. What is named like the last of the labels may be something else too.
IMAGE_KEYS = ("x_train", "train_images", "images", "image", "x", "data", "samples", "arr_0")
LABEL_KEYS = ("y_train", "train_labels", "labels", "label", "y")
MAYBE_LABEL_KEYS = ("classes", "class", "targets", "target")
TEST_IMAGE_KEYS = ("x_test", "test_images")
TEST_LABEL_KEYS = ("y_test", "test_labels")
_READ_ERRORS = (
    OSError, ValueError, EOFError, KeyError, MemoryError, OverflowError, RuntimeError, struct.error, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip
_REPAIR = "write it again with np.savez(path, images=..., labels=...)"


class _Member(NamedTuple):
    """What a file says of an array before it is read; of one that is damaged no shape."""

    bytes: int
    shape: tuple[int, ...] | None
    dtype: np.dtype | None

    def indexes(self, samples: "_Member") -> bool:
        """Whether it looks like a class index for each of some samples."""
        whole = self.dtype is not None and self.dtype.kind in "ui" and self.shape is not None
        return whole and samples.shape is not None and self.shape in (samples.shape[:1], (*samples.shape[:1], 1))


class _Roles(NamedTuple):
    """The names of the arrays that are read, None where there is none."""

    images: str
    labels: str | None
    test_images: str | None
    test_labels: str | None


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with archive.open(info) as stream:
            shape, _, dtype = readers[np.lib.format.read_magic(stream)](stream)
        return _Member(info.file_size, shape, dtype)
    except _READ_ERRORS:
        return _Member(info.file_size, None, None)


def _roles(members: dict[str, _Member]) -> _Roles:
    """What is what, by name; labels with an unsure name by shape and type, too."""
    spelled = {name.lower(): name for name in sorted(members)}  # of two that differ in case the lower one

    def first(keys: tuple[str, ...]) -> str | None:
        return next((spelled[key] for key in keys if key in spelled), None)

    images = first(IMAGE_KEYS)
    if images is None:
        raise DataError(
            f"found the arrays {listed(sorted(members), 20)}, expected images under one of {', '.join(IMAGE_KEYS)}: "
            f"{_REPAIR}"
        )
    unsure = (*MAYBE_LABEL_KEYS, *(["arr_1"] if images == "arr_0" else []))  # np.savez(path, images, labels)
    like = [spelled[key] for key in unsure if key in spelled and members[spelled[key]].indexes(members[images])]
    labels = first(LABEL_KEYS) or next(iter(like), None)
    test_images = first(TEST_IMAGE_KEYS)
    return _Roles(images, labels, test_images, first(TEST_LABEL_KEYS) if test_images else None)


def _read(path: str | PathLike[str], images_alone: bool = False) -> tuple[_Roles, dict[str, np.ndarray]]:
    """The roles of a file's arrays, and the arrays that have one; the others are named. Nothing is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            members = {info.filename.removesuffix(".npy"): _member(archive, info) for info in infos}
        with naming(path):
            roles = _roles(members)
            known = [name for name in roles if name is not None]
            wanted = [roles.images] if images_alone else known
            large = [name for name in wanted if members[name].bytes > MAX_MEMBER_BYTES]
            if large:
                raise DataError(
                    f"found {members[large[0]].bytes / 2**30:.3g} GiB in the array {large[0]!r}, expected at most "
                    f"{MAX_MEMBER_BYTES / 2**30:.3g} GiB: split the file or make the images smaller"
                )
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in wanted}
    except FileNotFoundError as error:
        raise DataError(f"found no file {path}, expected an .npz of images: check the path") from error
    except _READ_ERRORS as error:
        raise DataError(
            f"found {path} unreadable ({type(error).__name__}: {error}), expected an .npz of plain numeric arrays: "
            f"{_REPAIR}"
        ) from error
    unused = sorted(set(members) - ({roles.images, roles.labels} if images_alone else set(known)))
    if unused:
        shapes = [f"{name} {members[name].shape or ''}".rstrip() for name in unused]
        used = ", ".join(wanted)
        logger.warning(
            "%s: of its arrays %s %s read; not used: %s",
            path,
            used,
            "is" if len(wanted) == 1 else "are",
            listed(shapes),
        )
    return roles, found


def _labels(found: Shaped[np.ndarray, "..."]) -> Int32[np.ndarray, " n"]:
    label = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    if label.ndim != 1 or not np.issubdtype(label.dtype, np.integer):
        raise DataError(
            f"found labels of shape {label.shape} and dtype {label.dtype}, expected (n,) class indices, whole numbers: "
            "of a column for each class save label.argmax(1), of floats label.astype(int)"
        )
    if label.size and not 0 <= int(label.min()) <= int(label.max()) < 2**31:
        at = int(np.argmax((label < 0) | (label >= 2**31)))
        raise DataError(
            f"found labels in [{label.min()}, {label.max()}], the first that is none of sample {at} (from 0), "
            "expected class indices from 0: renumber them"
        )
    return label.astype(np.int32)


def npz(
    path: str | PathLike[str],
    *,
    float_range: tuple[float, float] | None = None,
    test_fraction: float = 0.25,
    seed: int = 0,
) -> Dataset:
    """Images from an .npz file, with labels where it has them.

    Arrays read, by names in any case: images under x_train, train_images, images, image, x, data, samples or arr_0 (the
    first found); labels under y_train, train_labels, labels, label or y, or where there is a whole number for each
    image under classes, class, targets, target, or arr_1 beside arr_0; x_test and y_test (test_images, test_labels)
    where the file brings its own test split. What else it holds is named and not used. Nothing is unpickled.

    Args:
        path: the file. Images are (n, h, w) or (n, h, w, c): uint8 in 0..255, or other numbers.
        float_range: what black and white are among numbers that are no bytes, such as (0.0, 1.0). By default
            (-1.0, 1.0) for floats, and refused where no float is negative, since [0, 1] is then as likely.
        test_fraction: share held out where the file has no x_test.
        seed: seed of that split.

    Returns:
        The images in [-1, 1], (n, h, w, c), with as many classes as the largest label plus one.

    Raises:
        DataError: a file that is missing, truncated or holds pickled objects; no images; a wrong shape, dtype, range
            or label count; NaN. It names the file, the array, and the sample where there is one.
    """
    roles, found = _read(path)

    def split(images: str, labels: str | None) -> Split:
        with naming(f"{path}, {images}"):
            x = pixels(found[images], float_range)
        with naming(f"{path}, {labels or images}"):
            return Split(x, None if labels is None else _labels(found[labels]))

    train = split(roles.images, roles.labels)
    with naming(path):
        if roles.test_images is None:
            return held_out(train.x, train.label, test_fraction=test_fraction, seed=seed)
        test = split(roles.test_images, roles.test_labels)
        tops = [int(part.label.max()) for part in (train, test) if part.label is not None]
        return Dataset(train, test, max(tops) + 1 if tops else None)


def npz_images(
    path: str | PathLike[str], *, float_range: tuple[float, float] | None = None
) -> Float32[np.ndarray, "n h w c"]:
    """All images of an .npz file, not split: those that `npz` learns from, in [-1, 1].

    Args:
        path: the file, such as `pplemd sample --out x.npz` writes it.
        float_range: what black and white are among numbers that are no bytes, as of `npz`.

    Raises:
        DataError: as of `npz`.
    """
    roles, found = _read(path, images_alone=True)
    with naming(f"{path}, {roles.images}"):
        return pixels(found[roles.images], float_range)
