"""Images from a folder or a zip."""

import io
import logging
import os
import struct
import warnings
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image, ImageOps

from pplemd.data.arrays import npz_images
from pplemd.data.class_indices import class_indices
from pplemd.data.dataset import Dataset, held_out
from pplemd.data.naming import naming
from pplemd.data.sources import SUFFIXES, Source, opened
from pplemd.errors import DataError

logger = logging.getLogger("pplemd")

FORMATS, MOVING = ("PNG", "JPEG", "WEBP", "BMP"), ("PNG", "WEBP")  # Pillow's names; those that may be animations
MAX_FILE_BYTES = 64 << 20  # of one compressed image: larger than any camera's .jpg
MAX_PIXELS = 64_000_000  # of one image: 8000 x 8000, 192 MB as RGB
MAX_TOTAL_BYTES = 8 << 30  # of all images as bytes: four times that as float32
_DECODE_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, OverflowError, struct.error, zlib.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


def _square(image: Image.Image, size: int) -> Image.Image:
    """The centre square, resized. Cropped first: a filter over the whole image would blend in what is cut away."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def _decode(content: bytes, name: str, size: int | None) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise DataError(
                f"found {image.width}x{image.height} pixels in {name}, expected at most {MAX_PIXELS}: save it smaller"
            )
        if image.mode.startswith(("I", "F")):
            raise DataError(
                f"found more than 8 bits a channel in {name} ({image.mode}), expected 8: rescale its levels, of all 16 "
                "bits by Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8)); a plain cast or "
                'convert("L") would wrap around or clip'
            )
        if image.format in MOVING and getattr(image, "n_frames", 1) > 1:
            raise DataError(f"found several pictures in {name}, an animation, expected one: save one of them")
        image.load()
        image = ImageOps.exif_transpose(image)
        image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        return image if size is None else _square(image, size)
    except _DECODE_ERRORS as error:
        raise DataError(
            f"found {name} unreadable as an image ({type(error).__name__}: {error}), expected a whole "
            f"{PurePosixPath(name).suffix}: remove it or save it again"
        ) from error


def _stack(source: Source, size: int | None) -> UInt8[np.ndarray, "n h w c"]:
    """All images as bytes: of one channel when every image is grey, else of three."""
    images: list[Image.Image] = []
    total = 0
    for name in source.images:
        image = _decode(source.read(name, MAX_FILE_BYTES), name, size)
        if images and image.size != images[0].size:
            raise DataError(
                f"found {image.width}x{image.height} pixels in {name} and {images[0].width}x{images[0].height} in "
                f"{source.images[0]}, expected one size: pass size= to em.data.images, to crop and resize"
            )
        total += image.width * image.height * 3
        if total > MAX_TOTAL_BYTES:
            raise DataError(f"found more than {MAX_TOTAL_BYTES} bytes of pixels, expected fewer: pass a smaller size=")
        images.append(image)
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    stacked = np.stack([np.asarray(image.convert(mode)) for image in images])
    return stacked[..., None] if mode == "L" else stacked


def _read(source: Source, path: Path, size: int | None) -> Float32[np.ndarray, "n h w c"]:
    """The images in [-1, 1]; what is left aside is logged."""
    left = source.left()
    if not source.images:
        raise DataError(
            f"found no images{f' that are read, but {left}' if left else ''}, expected files ending in "
            f"{', '.join(SUFFIXES)}: check the path"
        )
    if left:
        logger.warning(
            "%s: %s images are read; left aside: %s. Save these as .png.", path, f"{len(source.images):,}", left
        )
    return _stack(source, size).astype(np.float32) * np.float32(2.0 / 255.0) - np.float32(1.0)


def images(
    path: str | os.PathLike[str],
    size: int | None = None,
    *,
    inside: str | None = None,
    by_folder: bool | None = None,
    test_fraction: float = 0.25,
    seed: int = 0,
) -> Dataset:
    """Images from a folder or a zip of .png, .jpg, .webp and .bmp files.

    Classes are those of a dataset.json, as EDM's dataset_tool.py writes it; else sub-folders, where there are any, name
    them, unless they look like splits of the data or are numbered as 00000, 00001, which is refused. Files are taken in
    alphabetical order, classes of sub-folders are numbered in theirs, hidden files are passed over, other kinds of
    images are left aside and logged. Alpha is dropped; a set with any colour image is read as RGB.

    Args:
        path: a folder or a .zip.
        size: pixels of the square that every image is centre-cropped and resized (Lanczos) to; by default the images
            must all be of one size.
        inside: the folder in it whose images alone are taken, such as "train".
        by_folder: True where sub-folders name the classes whatever else there is, False where there are no classes.
        test_fraction: share of each class that is held out.
        seed: seed of that split.

    Returns:
        The images in [-1, 1], (n, h, w, c) with c = 1 or 3.

    Raises:
        DataError: nothing at the path, no images, an image that is corrupt, too large or of another size, a zip that
            is damaged or names paths outside itself, or what `class_indices` refuses. It names the file.
    """
    if size is not None and size < 1:
        raise DataError(f"found size = {size}, expected at least 1 pixel: pass the side of the square, such as 32")
    root = Path(path)
    with naming(path), opened(root) as whole:
        source = whole if inside is None else whole.beneath(inside)
        x = _read(source, root, size)
        return held_out(x, class_indices(source, by_folder), test_fraction=test_fraction, seed=seed)


def all_images(
    path: str | os.PathLike[str], *, float_range: tuple[float, float] | None = None
) -> Float32[np.ndarray, "n h w c"]:
    """All images of an .npz file, a folder or a zip, in [-1, 1], not split and whatever their classes.

    Args:
        path: the file or folder.
        float_range: what black and white are among numbers that are no bytes, as of `npz`.

    Raises:
        DataError: as of `npz` and `images`.
    """
    root = Path(path)
    if not root.is_dir() and not _is_zip_of_files(root):
        return npz_images(path, float_range=float_range)
    with naming(path), opened(root) as source:
        return _read(source, root, None)


def _is_zip_of_files(path: Path) -> bool:
    """Whether a file is a zip, and not one of arrays."""
    try:
        with zipfile.ZipFile(path) as archive:
            return not any(name.endswith(".npy") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
