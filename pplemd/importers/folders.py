"""Folders of checkpoints: which file of them is read, none that lies elsewhere."""

from pathlib import Path

from pplemd.errors import ImporterError
from pplemd.importers.checkpoint import Checkpoint
from pplemd.importers.documents import json_file
from pplemd.importers.families import identified
from pplemd.importers.weights import read_weights

WEIGHTS = (  # in the order in which they are looked for: what is only numbers first
    "diffusion_pytorch_model.safetensors",
    "model.safetensors",
    "weights.safetensors",
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
            f"{WEIGHTS[1]} beside it, or what `pplemd teacher import` wrote. Check the path."
        )
    weights = _weights(folder, place)
    config, arrays = json_file(described), read_weights(weights)
    schedule = _scheduler(folder) if "_class_name" in config else None
    if schedule is None:
        return identified(config, arrays, described, weights)
    return identified({**config, "scheduler": json_file(schedule)}, arrays, described, schedule, weights)


def _weights(folder: Path, place: Path) -> Path:
    prefix = "unet/" if place != folder else ""
    for name in WEIGHTS:
        found = inside(folder, prefix + name)
        if found is not None:
            return found
    raise ImporterError(f"{place} holds no weights; expected one of {', '.join(WEIGHTS)}. Download it again.")


def _scheduler(folder: Path) -> Path | None:
    """The noise schedule of a diffusers model, which its network does not know."""
    found = [inside(folder, place) for place in ("scheduler/scheduler_config.json", "scheduler_config.json")]
    return next((path for path in found if path is not None), None)
