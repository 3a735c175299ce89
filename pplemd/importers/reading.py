"""Any checkpoint, by what is at a path, pplemd's own folders among them: nothing is executed, whatever it holds."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pplemd.errors import ImporterError
from pplemd.importers.edm import PRECONDITIONED
from pplemd.importers.families import FAMILIES, WAY, Checkpoint, identified, recognised, unsaid
from pplemd.importers.folders import read_folder
from pplemd.importers.pickles import Module, plain, read_network, state_dict
from pplemd.importers.pipelines import inside, json_file, with_scheduler
from pplemd.importers.views import refuse_foreign, view, zip_entries
from pplemd.importers.weights import SHARD, is_safetensors, read_npz, read_safetensors, read_weights, write_safetensors
from pplemd.storage.folder import unwritable, write_json

ARGUMENTS = (  # of the constructor, where they are given by position
    "img_resolution",
    "img_channels",
    "label_dim",
    "use_fp16",
    "sigma_min",
    "sigma_max",
    "sigma_data",
    "model_type",
)
COMMON = 4  # of them are the first of each class; the others are EDMPrecond's


def read_edm_pickle(path: Path) -> Checkpoint:
    """The averaged network of an EDM checkpoint; its code is never looked at.

    Raises:
        ImporterError: where the file is damaged, hostile or of another kind; nothing of it is executed.
    """
    try:
        network = read_network(view(path))
        if network.kind not in PRECONDITIONED:
            known = ", ".join(PRECONDITIONED)
            edm2 = f" It is EDM2's, which pplemd does not read yet. {WAY}" if network.kind == "Precond" else ""
            raise ImporterError(f"its network is a {ascii(network.kind)[1:-1]}; expected one of {known}.{edm2}")
        arrays = {name: tensor.array() for name, tensor in state_dict(network).items()}
        return Checkpoint("edm", _config(network), arrays, (path,))
    except ImporterError as error:
        raise ImporterError(f"{path} is no EDM checkpoint that can be read: {error}") from error


def _config(network: Module) -> dict[str, Any]:
    """The arguments that the network was built with, and its class where that is not EDM's own."""
    positional, named = network.state.get("_init_args", ()), network.state.get("_init_kwargs")
    edm = network.kind == "EDMPrecond"
    known = ARGUMENTS if edm else ARGUMENTS[:COMMON]
    if not isinstance(positional, tuple) or not isinstance(named, dict) or len(positional) > len(known):
        raise ImporterError("its network lacks the arguments that it was built with (_init_kwargs). It is damaged.")
    kind = {} if edm else {"class_name": network.kind}
    return plain({**kind, **dict(zip(known, positional, strict=False)), **named})


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


ZIP = b"PK\x03\x04"
TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number that torch.save's old format begins with


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint of any kind, by what is at its path.

    Kinds: an EDM .pkl; a diffusers folder, its weights in one file or in several; safetensors, or a state dict or a
    training checkpoint of torch.save, with a config.json beside it; an .npz; the folder that `pplemd teacher import`
    wrote.

    Args:
        path: the file or folder.

    Raises:
        ImporterError: where it cannot be read, or is refused; nothing of it is executed.
    """
    try:
        return _read(Path(path))
    except ImporterError as error:
        if str(path) in str(error):
            raise
        raise ImporterError(f"{path}: {error}") from error


def _read(path: Path) -> Checkpoint:
    if path.is_dir():
        return read_teacher_folder(path) if is_teacher_folder(path) else read_folder(path)
    if path.suffix == ".safetensors":
        return _with_config(path)
    data = view(path)
    refuse_foreign(path, data)
    if bytes(data[:4]) == ZIP:
        names = [entry.filename for entry in zip_entries(data)]
        if any(name.endswith("data.pkl") for name in names):
            return _with_config(path)
        config, arrays = read_npz(path)
        return identified(config, {"": arrays}, path)
    if bytes(data[: len(TORCH)]) == TORCH or is_safetensors(data):
        return _with_config(path)
    return read_edm_pickle(path)


def _with_config(path: Path) -> Checkpoint:
    """Weights with their configuration beside them: NAME.json or config.json."""
    if SHARD.search(path.name):
        raise ImporterError(f"{path} is one of several files of weights; expected their folder. Give {path.parent}.")
    found = [inside(path.parent, name) for name in (f"{path.stem}.json", "config.json")]
    described = next((place for place in found if place is not None), None)
    if described is None:
        raise unsaid(path, recognised(read_weights(path)))
    config, schedules = with_scheduler(json_file(described), path.parent)
    return identified(config, read_weights(path), described, *schedules, path)
