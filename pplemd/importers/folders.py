"""Folders of checkpoints: which files of them are read."""

import re
from pathlib import Path

from pplemd.errors import ImporterError
from pplemd.importers.families import Checkpoint, identified, recognised
from pplemd.importers.network_places import StateDicts
from pplemd.importers.pipelines import NETWORKS, check_pipeline, inside, json_file, with_scheduler
from pplemd.importers.views import in_folder
from pplemd.importers.weights import SHARD, read_index, read_shards, read_weights

STEMS = ("diffusion_pytorch_model", "model", "weights", "pytorch_model", "diffusion_model")
ENDINGS = (  # in the order in which they are looked for: what is only numbers first
    "safetensors",
    "safetensors.index.json",
    "bin",
    "bin.index.json",
    "pt",
    "pth",
    "ckpt",
)
VARIANTS = ("", "ema", "fp32", "fp16", "bf16")  # in the order in which they are looked for; others come after
NAMED = re.compile(
    rf"({'|'.join(STEMS)})(?:\.(\w+))??\.({'|'.join(re.escape(one) for one in ENDINGS)})"
    rf"|({'|'.join(STEMS)})\.(safetensors|bin)\.index\.(\w+)\.json"  # an index has its variant inside its ending
)


def read_folder(folder: Path) -> Checkpoint:
    """A diffusers pipeline or model, in today's layout or that of 2022, or any config.json with weights beside it.

    Raises:
        ImporterError: where a file is missing, damaged or hostile, or of a kind that is not read; nothing is executed.
    """
    check_pipeline(folder)
    networks = [name for name in NETWORKS if (folder / name).is_dir()]
    if NETWORKS[0] not in networks and (folder / "config.json").exists():
        networks = []
    place = folder / networks[0] if networks else folder
    described = inside(folder, f"{place.name}/config.json" if networks else "config.json")
    if described is None:
        raise ImporterError(
            f"{folder} holds no config.json, nor unet/config.json; expected a diffusers folder, a config.json with "
            f"weights beside it, or what `pplemd teacher import` wrote.{_lying_there(folder, place)}"
        )
    config, schedules = with_scheduler(json_file(described), folder)
    weights, others = _weights(folder, place)
    notes = [f"{weights.name} was read, and not {', '.join(others)} beside it"] if others else []
    if len(networks) > 1:
        second = networks[1]
        notes.append(f"{networks[0]} was read, and not {second} beside it: give {folder / second} for that")
    found, parts = _read(place, weights)
    return identified(config, found, described, *schedules, weights, *parts, notes=tuple(notes))


def _read(place: Path, weights: Path) -> tuple[StateDicts, list[Path]]:
    """The arrays of a file of weights, or of those that an index speaks of, and these files."""
    if weights.suffix != ".json":
        return read_weights(weights), []
    placed = read_index(weights)
    parts = [_part(place, name, weights) for name in sorted(set(placed.values()))]
    return {"": read_shards(weights, placed, parts)}, parts


def _lying_there(folder: Path, place: Path) -> str:
    """What a folder without a configuration holds, for a message: weights, by whose names they have, or other files."""
    if any(NAMED.fullmatch(path.name) for path in place.iterdir()):
        weights, _ = _weights(folder, place)
        known = recognised(_read(place, weights)[0])
        if known is not None:
            return f" {weights.name} holds weights alone. {known.sentence}"
    return in_folder(place)


def _weights(folder: Path, place: Path) -> tuple[Path, list[str]]:
    """The file of weights, or their index; and other variants of it, which are not read.

    Raises:
        ImporterError: where there is none.
    """
    found = {}
    for path in sorted(place.iterdir()):
        match = NAMED.fullmatch(path.name)
        if match is not None:
            stem, variant = match[1] or match[4], match[2] or match[6] or ""
            ending = match[3] or f"{match[5]}.index.json"
            order = VARIANTS.index(variant) if variant in VARIANTS else len(VARIANTS)
            found[path.name] = (order, variant, ENDINGS.index(ending), STEMS.index(stem))
    if not found:
        raise ImporterError(_no_weights(place))
    name = min(found, key=lambda one: found[one])
    chosen = inside(folder, name if place == folder else f"{place.name}/{name}")
    assert chosen is not None
    same = [one for one in found if found[one][1] != found[name][1]]
    return chosen, same


def _no_weights(place: Path) -> str:
    shards = [path.name for path in place.iterdir() if SHARD.search(path.name)]
    if shards:
        return (
            f"{place} holds weights in several files, such as {ascii(min(shards))[1:-1]}, and not the index that says "
            "which array lies where; expected it beside them, named as NAME.safetensors.index.json or "
            "NAME.bin.index.json. Get that one file."
        )
    return (
        f"{place} holds no weights that are read; expected {STEMS[0]}.safetensors or .bin, model.safetensors, or "
        f"another of {', '.join(STEMS)} with .{', .'.join(ENDINGS)}. Give a file of another name itself."
        f"{in_folder(place)}"
    )


def _part(place: Path, name: str, index: Path) -> Path:
    found = inside(place, name)
    if found is None:
        raise ImporterError(f"{index} speaks of {name}, which is not there. Download it into {place}.")
    return found
