"""Class indices of image files: those of EDM's dataset.json, else of their sub-folders."""

import json
import os
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int32

from pplemd.data.naming import listed, naming
from pplemd.data.sources import Source
from pplemd.errors import DataError

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
        if not _are_splits(names):
            continue
        one = next((name for name in names if _splits(*_words(name)) == {"train"}), names[0])
        one = next("/".join(parent[: level + 1]) for parent in parents if parent[level : level + 1] == (one,))
        raise DataError(
            f"found the sub-folders {listed(names)}, which are splits of the data and no classes, expected one "
            f"sub-folder for each class: pass the {one} folder alone, in a zip by inside={one!r}; test_fraction= of it "
            f"is held out ({ANYWAY})"
        )


def _are_splits(names: list[str]) -> bool:
    """Whether two of the names are those of different splits, or all of them begin or end with such names."""
    whole = {split for name in names for split in _splits("".join(_words(name)))}
    parts = [_splits(*_words(name)[:1], *_words(name)[-1:]) for name in names]
    return len(whole) > 1 or (all(parts) and len(set.union(*parts)) > 1)


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
