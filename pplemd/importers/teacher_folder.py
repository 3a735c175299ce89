"""pplemd's own folder of an imported teacher: teacher.json and weights.safetensors."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pplemd.errors import ImporterError
from pplemd.importers.families import FAMILIES, Checkpoint
from pplemd.importers.pipelines import inside, json_file
from pplemd.importers.weights import read_safetensors, write_safetensors
from pplemd.storage.folder import unwritable, write_json

CARD, WEIGHTS = "teacher.json", "weights.safetensors"
MAX_NOTES, MAX_NOTE = 8, 1000  # of what was chosen at the import, and characters of each
FORMAT = 1  # raised when a reader of today could not read what is written


def is_teacher_folder(folder: Path) -> bool:
    """Whether a folder looks like one that was written here."""
    return (folder / CARD).exists()


def read_teacher_folder(folder: Path) -> Checkpoint:
    """The teacher of a folder that `pplemd teacher import` wrote.

    Raises:
        ImporterError: where a file of it is missing or damaged.
    """
    card_file, weights = inside(folder, CARD), inside(folder, WEIGHTS)
    if card_file is None or weights is None:
        raise ImporterError(f"{folder} lacks {CARD} or {WEIGHTS}. It is damaged: import the teacher again.")
    card = json_file(card_file)
    name, config = card.get("architecture"), card.get("config")
    if card.get("format") != FORMAT or not (isinstance(name, str) and name in FAMILIES) or not isinstance(config, dict):
        raise ImporterError(
            f"{card_file} is of format {str(card.get('format'))[:20]}, architecture {str(name)[:40]}; expected format "
            f"{FORMAT} and one of {', '.join(FAMILIES)}. Import the teacher again, with this pplemd."
        )
    facts = {fact: card[fact] for fact in ("source", "sha256") if isinstance(card.get(fact), str)}
    listed = card.get("notes")
    said = listed[:MAX_NOTES] if isinstance(listed, list) else []
    notes = tuple(note[:MAX_NOTE] for note in said if isinstance(note, str))
    return Checkpoint(str(name), config, read_safetensors(weights), (card_file, weights), facts, notes)


def write_teacher_folder(folder: Path, checkpoint: Checkpoint, facts: Mapping[str, Any]) -> None:
    """Write a checkpoint as a teacher folder, whole or not at all.

    Args:
        folder: a folder that does not exist yet.
        checkpoint: what was read.
        facts: what else teacher.json says of it.

    Raises:
        ImporterError: where the folder exists, or cannot be written.
    """
    if folder.exists():
        raise ImporterError(f"{folder} exists; expected nothing yet. Choose another by --out.")
    neighbour = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    card = {"format": FORMAT, "architecture": checkpoint.architecture, "config": dict(checkpoint.config), **facts}
    try:
        neighbour.mkdir(parents=True)
        write_safetensors(neighbour / WEIGHTS, checkpoint.arrays)
        write_json(neighbour / CARD, card)
        os.rename(neighbour, folder)
    except OSError as error:
        raise ImporterError(unwritable(folder, error)) from error
    finally:
        shutil.rmtree(neighbour, ignore_errors=True)
