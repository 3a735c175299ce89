"""Images from a folder or a zip of .png and .jpg files."""

import io
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image, ImageOps

from pplemd.data.dataset import Dataset, held_out
from pplemd.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_FILE_BYTES = 64 << 20  # of one compressed image: larger than any camera's .jpg
MAX_PIXELS = 64_000_000  # of one image: 8000 x 8000, 192 MB as RGB
MAX_TOTAL_BYTES = 8 << 30  # of all images as bytes: four times that as float32
_DECODE_ERRORS = (
    OSError, ValueError, SyntaxError, EOFError, OverflowError, struct.error, zlib.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip

Reader = Callable[[str], bytes]  # the content of a named image file


def _wanted(name: str) -> bool:
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)
    return name.lower().endswith(SUFFIXES) and not hidden


def _too_large(name: str, count: int) -> DataError:
    return DataError(
        f"found {count} bytes in {name}, expected at most {MAX_FILE_BYTES} in one image: remove it or save it smaller"
    )


def _folder_names(root: Path) -> list[str]:
    paths = (Path(base, file) for base, _, files in os.walk(root) for file in files)
    return sorted(name for name in (path.relative_to(root).as_posix() for path in paths) if _wanted(name))


def _read_file(root: Path, name: str) -> bytes:
    with open(root / name, "rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise _too_large(name, os.path.getsize(root / name))
    return content


def _zip_names(archive: zipfile.ZipFile) -> list[str]:
    names = [info.filename for info in archive.infolist() if _wanted(info.filename) and not info.is_dir()]
    for name in names:
        if ".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in name or ":" in name:
            raise DataError(
                f"found the member {name!r}, expected paths inside the zip: make the zip again from a folder"
            )
    return sorted(names)


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > MAX_FILE_BYTES:  # zipfile never unpacks more than this declared size
        raise _too_large(name, info.file_size)
    with archive.open(info) as member:
        return member.read(MAX_FILE_BYTES + 1)


@contextmanager
def _source(path: Path) -> Iterator[tuple[list[str], Reader]]:
    """The image names of a folder or zip, and how to read one. A zip is read in memory and never extracted."""
    if path.is_dir():
        yield _folder_names(path), lambda name: _read_file(path, name)
        return
    if not path.exists():
        raise DataError(f"found nothing at {path}, expected a folder or a .zip of images: check the path")
    if not zipfile.is_zipfile(path):
        raise DataError(f"found {path}, neither a folder nor a whole zip, expected one of them: make the zip again")
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"found {path} damaged ({error}), expected a whole zip: make the zip again") from error
    with archive:
        yield _zip_names(archive), lambda name: _read_member(archive, name)


def _square(image: Image.Image, size: int) -> Image.Image:
    """The centre square, resized. Cropped first: a filter over the whole image would blend in what is cut away."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)


def _decode(content: bytes, name: str, size: int | None) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))
        if image.width * image.height > MAX_PIXELS:
            raise DataError(
                f"found {image.width}x{image.height} pixels in {name}, expected at most {MAX_PIXELS}: save it smaller"
            )
        if image.mode.startswith(("I", "F")):
            raise DataError(f"found more than 8 bits a channel in {name} ({image.mode}), expected 8: save it as 8 bits")
        image.load()
        image = ImageOps.exif_transpose(image)
        image = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
        return image if size is None else _square(image, size)
    except _DECODE_ERRORS as error:
        raise DataError(
            f"found {name} unreadable as an image ({type(error).__name__}: {error}), expected a whole .png or .jpg: "
            "remove it or save it again"
        ) from error


def _stack(names: list[str], read: Reader, size: int | None) -> UInt8[np.ndarray, "n h w c"]:
    """All images as bytes: of one channel when every image is grey, else of three."""
    images: list[Image.Image] = []
    total = 0
    for name in names:
        try:
            content = read(name)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
            raise DataError(
                f"found {name} unreadable ({error}), expected a whole file: remove or replace it"
            ) from error
        image = _decode(content, name, size)
        if images and image.size != images[0].size:
            raise DataError(
                f"found {image.width}x{image.height} pixels in {name} and {images[0].width}x{images[0].height} in "
                f"{names[0]}, expected one size: pass size= to crop and resize"
            )
        total += image.width * image.height * 3
        if total > MAX_TOTAL_BYTES:
            raise DataError(f"found more than {MAX_TOTAL_BYTES} bytes of pixels, expected fewer: pass a smaller size=")
        images.append(image)
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    stacked = np.stack([np.asarray(image.convert(mode)) for image in images])
    return stacked[..., None] if mode == "L" else stacked


def _labels(names: list[str]) -> Int32[np.ndarray, " n"] | None:
    """Class indices from the first folder in which the names differ, in alphabetical order of folders."""
    parents = [PurePosixPath(name).parts[:-1] for name in names]
    common = len(os.path.commonprefix(parents))
    if all(len(parent) == common for parent in parents):
        return None
    if any(len(parent) == common for parent in parents):
        raise DataError(
            "found images both beside and inside sub-folders, expected either no sub-folders or one for each class: "
            "move the loose images into one"
        )
    folders = [parent[common] for parent in parents]
    found = sorted(set(folders))
    if {"train", "test"} <= set(found):
        raise DataError(
            "found the sub-folders train and test, expected one for each class: pass the train folder alone; "
            "test_fraction= of it is held out"
        )
    return np.array([found.index(folder) for folder in folders], dtype=np.int32)


def images(
    path: str | os.PathLike[str], size: int | None = None, *, test_fraction: float = 0.25, seed: int = 0
) -> Dataset:
    """Images from a folder or a zip of .png and .jpg files; sub-folders, where there are any, name the classes.

    Files are taken in alphabetical order, classes are numbered in alphabetical order of the sub-folders, hidden files
    and other suffixes are passed over. Alpha is dropped; a set with any colour image is read as RGB.

    Args:
        path: a folder or a .zip.
        size: pixels of the square that every image is centre-cropped and resized (Lanczos) to; by default the images
            must all be of one size.
        test_fraction: share of each class that is held out.
        seed: seed of that split.

    Returns:
        The images in [-1, 1], (n, h, w, c) with c = 1 or 3.

    Raises:
        DataError: nothing at the path, no images, an image that is corrupt, too large or of another size, a zip that
            is damaged or names paths outside itself, or a class of one image.
    """
    if size is not None and size < 1:
        raise DataError(f"found size = {size}, expected at least 1 pixel: pass the side of the square, such as 32")
    with _source(Path(path)) as (names, read):
        if not names:
            raise DataError(
                f"found no images in {path}, expected files ending in {', '.join(SUFFIXES)}: check the path"
            )
        stacked = _stack(names, read, size)
    x = stacked.astype(np.float32) * np.float32(2.0 / 255.0) - np.float32(1.0)
    return held_out(x, _labels(names), test_fraction=test_fraction, seed=seed)
