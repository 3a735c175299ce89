"""Weights in several files: an index says which array lies in which, as Hugging Face splits large ones."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from pplemd.errors import ImporterError
from pplemd.importers.documents import json_file
from pplemd.importers.weights import read_weights

SHARD = re.compile(r"-\d{5}-of-\d{5}(\.\w+)?\.(safetensors|bin)$")
MAX_SHARDS = 1024


def read_index(index: Path) -> dict[str, str]:
    """The file of each array, by the array's name.

    Args:
        index: a JSON object with "weight_map", from an array's name to its file's.

    Raises:
        ImporterError: where it is damaged, or names anything but files of weights beside it.
    """
    placed = json_file(index).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(file, str) for file in placed.values()):
        raise ImporterError(
            f'{index} has no "weight_map" from the names of arrays to those of files; expected the index of weights in '
            "several files. Download it again."
        )
    names, ending = sorted(set(placed.values())), ".bin" if ".bin.index" in index.name else ".safetensors"
    strange = [name for name in names if Path(name).name != name or not name.endswith(ending)]
    if strange or not 1 <= len(names) <= MAX_SHARDS:
        shown = f", such as {ascii(strange[0])[:80]}" if strange else ""
        raise ImporterError(
            f"{index} speaks of {len(names)} files{shown}; expected 1 to {MAX_SHARDS} {ending} files beside it. "
            "Download it again."
        )
    return placed


def read_shards(index: Path, placed: Mapping[str, str], files: Iterable[Path]) -> dict[str, np.ndarray]:
    """The arrays of all files by name, in the index's order, as views of the files.

    Args:
        index: where the index is, for messages.
        placed: what it says.
        files: those that it speaks of, each within reach.

    Raises:
        ImporterError: where a file is damaged, or holds others than the index says.
    """
    found = {file.name: read_weights(file).get("", {}) for file in files}
    for name, file in placed.items():
        if name not in found[file]:
            raise ImporterError(
                f"{index} says that {ascii(name)[:80]} lies in {file}, which does not hold it. The files are of "
                "different checkpoints, or one is damaged: download them again."
            )
    contained = sum(map(len, found.values()))
    if contained != len(placed):
        raise ImporterError(
            f"{index} speaks of {len(placed):,} arrays, and its files hold {contained:,}; expected the same. The files "
            "are of different checkpoints: download them again."
        )
    return {name: found[file][name] for name, file in placed.items()}
