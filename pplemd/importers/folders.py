"""Folders of checkpoints: which file of them is read, none that lies elsewhere."""

from pathlib import Path
from typing import Any

from pplemd.errors import ImporterError
from pplemd.importers.checkpoint import Checkpoint
from pplemd.importers.documents import json_file
from pplemd.importers.families import identified
from pplemd.importers.shards import INDEX, read_index, read_shards
from pplemd.importers.weights import read_weights

WEIGHTS = (  # in the order in which they are looked for: what is only numbers first
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "model.safetensors",
    "weights.safetensors",
    f"diffusion_pytorch_model.safetensors{INDEX}",
    f"model.safetensors{INDEX}",
    "diffusion_pytorch_model.bin",
    "diffusion_model.pt",
    "pytorch_model.bin",
)


def inside(folder: Path, name: str) -> Path | None:
    """A file of a folder, or None where there is none.

    A link may lead to another place in the folder, or as in Hugging Face's cache, from REPOSITORY/snapshots/... to
    REPOSITORY/blobs/...

    Raises:
        ImporterError: where it is a link to elsewhere.
    """
    path = folder / name
    if not path.exists():
        return None
    allowed, real = [folder.resolve()], path.resolve()
    for parent in folder.absolute().parents:
        if parent.name == "snapshots":
            allowed.append(parent.parent.resolve() / "blobs")
    if not any(real.is_relative_to(place) for place in allowed):
        raise ImporterError(
            f"{path} is a link to {real}, outside of the folder; expected the file itself. Copy it there if you trust "
            "it."
        )
    return path


def read_folder(folder: Path) -> Checkpoint:
    """A diffusers pipeline or model, in today's layout or that of 2022, or any config.json with weights beside it.

    Raises:
        ImporterError: where a file is missing, damaged or hostile; nothing is executed.
    """
    place = folder / "unet" if (folder / "unet").is_dir() else folder
    described = inside(folder, f"{place.name}/config.json" if place != folder else "config.json")
    if described is None:
        raise ImporterError(
            f"{folder} holds no config.json, nor unet/config.json; expected a diffusers folder, a config.json with "
            f"{WEIGHTS[2]} beside it, or what `pplemd teacher import` wrote. Check the path."
        )
    weights = _weights(folder, place)
    config, schedules = with_scheduler(json_file(described), folder)
    if not weights.name.endswith(INDEX):
        return identified(config, read_weights(weights), described, *schedules, weights)
    placed = read_index(weights)
    parts = [_part(place, name, weights) for name in sorted(set(placed.values()))]
    return identified(config, read_shards(weights, placed, parts), described, *schedules, weights, *parts)


def with_scheduler(config: dict[str, Any], folder: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """A configuration, with that of the scheduler where it is of a diffusers model and has one, and the file of that.

    Args:
        config: of the network.
        folder: of the pipeline, or its unet/ alone, or the one of all files in the layout of 2022.

    Raises:
        ImporterError: where the scheduler's is damaged.
    """
    if not {"_class_name", "block_out_channels", "block_channels"} & set(config):
        return config, ()
    folder = folder.absolute()  # "." has neither a name nor a parent
    found = _scheduler(folder) or (_scheduler(folder.parent) if folder.name == "unet" else None)
    return (config, ()) if found is None else ({**config, "scheduler": json_file(found)}, (found,))


def _weights(folder: Path, place: Path) -> Path:
    prefix = "unet/" if place != folder else ""
    for name in WEIGHTS:
        found = inside(folder, prefix + name)
        if found is not None:
            return found
    raise ImporterError(f"{place} holds no weights; expected one of {', '.join(WEIGHTS)}. Download it again.")


def _part(place: Path, name: str, index: Path) -> Path:
    found = inside(place, name)
    if found is None:
        raise ImporterError(f"{index} speaks of {name}, which is not there. Download it into {place}.")
    return found


def _scheduler(folder: Path) -> Path | None:
    """The noise schedule of a diffusers model, which its network does not know."""
    found = [inside(folder, place) for place in ("scheduler/scheduler_config.json", "scheduler_config.json")]
    return next((path for path in found if path is not None), None)
