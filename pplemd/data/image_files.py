"""Images and their classes from a folder or a zip, read in memory and never extracted."""

import dataclasses
import io
import json
import logging
import os
import re
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from PIL import Image, ImageOps

from pplemd.data.arrays import npz_images
from pplemd.data.dataset import Dataset, held_out, listed, naming
from pplemd.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp")
UNREAD = {".heic", ".heif", ".jxl", ".svg", ".exr", ".npy", ".npz"}  # further kinds of images, that Pillow has not
READ_ERRORS = (OSError, EOFError, NotImplementedError, zlib.error, zipfile.BadZipFile, RuntimeError)  # of packed files


@dataclasses.dataclass(frozen=True)
class Source:
    """The files of a folder or zip, hidden ones passed over; names are paths inside it, with slashes.

    Attributes:
        images: names of the images, in alphabetical order.
        others: names of what else lies there.
        content: the bytes of a file of a name and at most so many bytes.
    """

    images: list[str]
    others: list[str]
    content: Callable[[str, int], bytes]

    def read(self, name: str, most: int) -> bytes:
        """Return the content of a file.

        Raises:
            DataError: a file that cannot be read, or is larger than `most`.
        """
        try:
            content = self.content(name, most)
        except READ_ERRORS as error:
            raise DataError(
                f"found {name} unreadable ({error}), expected a whole file: remove or replace it"
            ) from error
        if len(content) > most:
            raise DataError(
                f"found more than {most} bytes in {name}, expected at most so many in one file: remove it or save it "
                "smaller"
            )
        return content

    def beneath(self, inside: str) -> "Source":
        """Return the files beneath one of the folders.

        Raises:
            DataError: no such folder.
        """
        start = "/".join(PurePosixPath(inside.replace("\\", "/")).parts) + "/"
        images, others = ([name for name in names if name.startswith(start)] for names in (self.images, self.others))
        if not images and not others:
            tops = sorted({name.split("/")[0] for name in self.images + self.others if "/" in name})
            raise DataError(
                f"found no folder {inside!r}, expected one of the folders inside ({', '.join(tops) or 'there are none'}"
                "): correct inside="
            )
        return Source(images, others, self.content)

    def left(self) -> str:
        """Return how many images of which kinds are not read, such as "2 .gif, 1 .tif"; empty where all are."""
        kinds = {PurePosixPath(name).suffix.lower() for name in self.others}
        pictures = kinds & {*Image.registered_extensions(), *UNREAD} if kinds else kinds
        counts = Counter(PurePosixPath(name).suffix.lower() for name in self.others)
        return ", ".join(f"{counts[kind]:,} {kind}" for kind in sorted(pictures))


def _source(names: list[str], content: Callable[[str, int], bytes]) -> Source:
    seen = sorted(name for name in names if not _hidden(name))
    images = [name for name in seen if name.lower().endswith(SUFFIXES)]
    return Source(images, [name for name in seen if not name.lower().endswith(SUFFIXES)], content)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in PurePosixPath(name).parts)


def _folder(root: Path) -> Source:
    paths = (Path(base, file) for base, _, files in os.walk(root) for file in files)

    def content(name: str, most: int) -> bytes:
        with open(root / name, "rb") as file:
            return file.read(most + 1)

    return _source([path.relative_to(root).as_posix() for path in paths], content)


def _zip(archive: zipfile.ZipFile) -> Source:
    infos = {info.filename.replace("\\", "/"): info for info in archive.infolist() if not info.is_dir()}
    for name in infos:
        if not _hidden(name) and (".." in PurePosixPath(name).parts or name.startswith("/") or ":" in name):
            raise DataError(
                f"found the member {name!r}, expected paths inside the zip: make the zip again from a folder"
            )

    def content(name: str, most: int) -> bytes:
        if infos[name].file_size > most:  # zipfile never unpacks more than this declared size
            return b" " * (most + 1)
        with archive.open(infos[name]) as member:
            return member.read(most + 1)

    return _source(list(infos), content)


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The files of a folder or a zip, as a context.

    Args:
        path: of the folder or zip.

    Raises:
        DataError: nothing there, something else, or a zip that is damaged or names paths outside itself.
    """
    if path.is_dir():
        yield _folder(path)
        return
    if not path.exists():
        raise DataError("found nothing there, expected a folder or a .zip of images: check the path")
    if not zipfile.is_zipfile(path):
        raise DataError("found neither a folder nor a whole zip, expected one of them: make the zip again")
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"found a damaged zip ({error}), expected a whole zip: make the zip again") from error
    with archive:
        yield _zip(archive)


CARD = "dataset.json"
MAX_CARD_BYTES = 512 << 20  # 34 bytes an image: those of 15 million
_SET = r"(?:sets?|data|images?|imgs?|splits?|val|dev)?"
_SPLITS = {  # what splits of data are called
    "train": re.compile(r"(?:train(?:ing|ed)?|trn)" + _SET),
    "validation": re.compile(r"(?:val(?:id(?:ation|ate)?)?s?|vld)" + _SET),
    "development": re.compile(r"dev(?:el(?:opment)?)?" + _SET),
    "test": re.compile(r"(?:test(?:ing|s)?|tst)" + _SET),
    "evaluation": re.compile(r"eval(?:uation|s)?" + _SET),
    "held out": re.compile(r"h(?:o|e)ld(?:ing)?outs?" + _SET),
    "unlabelled": re.compile(r"(?:un(?:labell?ed|supervised)|extra|query|gallery)" + _SET),
}
_NUMBER = re.compile(r"\d{4,}")  # EDM's 00000, FFHQ's 01000: a folder for each so many images
ANYWAY = "by_folder=True takes the folders as classes all the same, by_folder=False none"


def class_indices(source: Source, by_folder: bool | None = None) -> Int32[np.ndarray, " n"] | None:
    """The class index of each image, or None where there are none.

    Args:
        source: the files.
        by_folder: whether the first sub-folders in which names differ are the classes, in alphabetical order; by
            default what dataset.json says where there is one, else they are, unless they look like something else.

    Raises:
        DataError: a dataset.json that cannot be read or does not fit the images; sub-folders that may be splits of the
            data, or are numbered; images beside sub-folders; a class of one image.
    """
    cards = [name for name in source.others if PurePosixPath(name).name.lower() == CARD]
    if by_folder is None and cards:
        label = _of_card(source, cards)
    else:
        label = None if by_folder is False else _of_folders(source.images, sure=bool(by_folder))
    for index, count in enumerate([] if label is None else np.bincount(label)):
        if count == 1:
            raise DataError(
                f"found 1 image of class {index}, {source.images[int(np.argmax(label == index))]}, expected 2 or more "
                "to hold one out: add images"
            )
    return label


def _of_folders(names: list[str], sure: bool) -> Int32[np.ndarray, " n"] | None:
    """Indices of the first folders in which the names differ; refused where they look like no classes."""
    parents = [PurePosixPath(name).parts[:-1] for name in names]
    common = len(os.path.commonprefix(parents))
    if all(len(parent) == common for parent in parents):
        if sure:
            raise DataError("found by_folder=True and no sub-folders, expected one for each class: leave it out")
        return None
    if any(len(parent) == common for parent in parents):
        raise DataError(
            "found images both beside and inside sub-folders, expected either no sub-folders or one for each class: "
            "move the loose images into one"
        )
    folders = sorted({parent[common] for parent in parents})
    if not sure:
        _check_splits(parents, common)
        _check_numbers(folders)
    number = {folder: index for index, folder in enumerate(folders)}
    return np.array([number[parent[common]] for parent in parents], dtype=np.int32)


def _check_splits(parents: list[tuple[str, ...]], common: int) -> None:
    """See that at no level the folders are splits of the data."""
    for level in range(common, max(map(len, parents))):
        names = sorted({parent[level] for parent in parents if len(parent) > level})
        whole = {split for name in names for split in _splits("".join(_words(name)))}
        parts = [_splits(*_words(name)[:1], *_words(name)[-1:]) for name in names]
        are_splits = len(whole) > 1 or (all(parts) and len(set.union(*parts)) > 1)
        if not are_splits:
            continue
        one = next((name for name in names if _splits(*_words(name)) == {"train"}), names[0])
        one = next("/".join(parent[: level + 1]) for parent in parents if parent[level : level + 1] == (one,))
        raise DataError(
            f"found the sub-folders {listed(names)}, which are splits of the data and no classes, expected one "
            f"sub-folder for each class: pass the {one} folder alone, in a zip by inside={one!r}; test_fraction= of it "
            f"is held out ({ANYWAY})"
        )


def _words(name: str) -> list[str]:
    """The words of a name, without its numbers: Test-Set2 has test and set."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def _splits(*words: str) -> set[str]:
    return {split for split, pattern in _SPLITS.items() if any(pattern.fullmatch(word) for word in words)}


def _check_numbers(folders: list[str]) -> None:
    """See that the folders are not numbered like those that hold so many images each, whatever their class."""
    if all(_NUMBER.fullmatch(folder) for folder in folders):
        raise DataError(
            f"found the numbered sub-folders {listed(folders)} and no {CARD}, expected classes by name or by {CARD}: "
            f"such folders often hold so many images each, of any class. Say which: {ANYWAY}"
        )


def _of_card(source: Source, cards: list[str]) -> Int32[np.ndarray, " n"] | None:
    """Indices of a dataset.json, as EDM's and StyleGAN's dataset_tool.py write it."""
    if len(cards) > 1:
        raise DataError(
            f"found {listed(cards)}, expected one {CARD}: take the images beneath one of the folders, as in "
            f"inside={str(PurePosixPath(cards[0]).parent)!r}"
        )
    with naming(cards[0]):
        classes = _classes_of(source.read(cards[0], MAX_CARD_BYTES))
        if classes is None:
            return None
        top = str(PurePosixPath(cards[0]).parent)
        names = _matched([name.removeprefix(f"{top}/") for name in source.images], classes)
        return np.array([_index(name, classes[name]) for name in names], dtype=np.int32)


def _classes_of(content: bytes) -> dict[str, Any] | None:
    """The labels by names of files, with slashes; None where there are none."""
    try:
        card = json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"found no JSON ({error}), expected a whole {CARD}: make it again") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"found no JSON ({error}), expected UTF-8 text: make it again") from error
    if not isinstance(card, dict) or "labels" not in card:
        keys = listed(list(card)) if isinstance(card, dict) else f"a {type(card).__name__}"
        raise DataError(
            f"found {keys or 'nothing'}, expected labels, as in "
            f'{{"labels": [["00000/img00000000.png", 3], ...]}} or {{"labels": null}}: add it, or leave the file '
            f"aside: {ANYWAY}"
        )
    labels = card["labels"]
    pairs = list(labels.items()) if isinstance(labels, dict) else labels
    if pairs is None:
        return None
    if not isinstance(pairs, list):
        raise DataError(f"found a {type(pairs).__name__} as labels, expected pairs of name and class: make it again")
    classes: dict[str, Any] = {}
    for number, pair in enumerate(pairs):
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str)):
            raise DataError(f"found {pair!r} as labels[{number}], expected [name, class]: make it again")
        name = "/".join(part for part in pair[0].replace("\\", "/").split("/") if part not in ("", "."))
        if name in classes and classes[name] != pair[1]:
            raise DataError(f"found the labels {classes[name]!r} and {pair[1]!r} of {name}, expected one: remove one")
        classes[name] = pair[1]
    nothing = [name for name, value in classes.items() if value is None]
    if nothing and len(nothing) < len(classes):
        raise DataError(f"found null as the label of {listed(nothing)}, expected one for each image or for none")
    return None if nothing else classes


def _matched(images: list[str], classes: dict[str, Any]) -> list[str]:
    """The name that each image has among the labels: its own, or one of them is the end of the other."""
    by_file: dict[str, list[str]] = {}
    for name in classes:
        by_file.setdefault(name.rsplit("/", 1)[-1], []).append(name)
    found = [[name] if name in classes else _ends(name, by_file) for name in images]
    nameless = [image for image, names in zip(images, found, strict=True) if not names]
    if nameless:
        raise DataError(
            f"found no label of {len(nameless)} of {len(images)} images: {listed(nameless)}; expected one for each: "
            f"add them, or remove these images ({ANYWAY})"
        )
    counts = Counter(name for names in found for name in names)
    for image, names in zip(images, found, strict=True):
        if len(names) > 1 or counts[names[0]] > 1:
            raise DataError(f"found several images or labels for {image}, expected one: write names with their folders")
    one = [names[0] for names in found]
    gone = sorted(set(classes) - set(one))
    if gone:
        raise DataError(
            f"found labels of {len(gone)} images that are not there, or of kinds that are not read: {listed(gone)}; "
            "expected all of them: add these images, or remove the labels"
        )
    return one


def _ends(image: str, by_file: dict[str, list[str]]) -> list[str]:
    candidates = by_file.get(image.rsplit("/", 1)[-1], [])
    return [name for name in candidates if image.endswith(f"/{name}") or name.endswith(f"/{image}")]


def _index(name: str, value: Any) -> int:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (isinstance(value, float) and value.is_integer())) or not 0 <= value < 2**31:
        raise DataError(f"found the label {value!r} of {name}, expected a class index from 0: renumber the classes")
    return int(value)


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
