"""diffusers pipelines: what parts they have, and the scheduler that belongs to a network in one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pplemd.errors import ImporterError
from pplemd.importers.documents import json_file
from pplemd.importers.links import inside

INDEX = "model_index.json"
PIPELINES = ("DDPM", "DDIM", "PNDM", "ScoreSdeVe", "KarrasVe", "RePaint")  # of one UNet2DModel that predicts pixels
NETWORKS = ("unet", "unet_ema")  # in the order in which they are looked for
UNDERSTOOD = ("UNet2DModel", "UNetUnconditionalModel")  # classes of parts; schedulers are judged by what they say
LATENT = ("vae", "vqvae", "movq", "first_stage_model")  # folders of parts that make pixels of what a network predicts
ABOVE = 2  # folders above a network's: training leaves PIPELINE/checkpoint-500/unet
WAY = 'Wrap it in em.teachers.DenoiserFunction, as docs/teachers.md, "Any PyTorch module", shows.'


def with_scheduler(config: dict[str, Any], folder: Path) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """A configuration, with that of the scheduler where it is of a diffusers model and has one, and the file of that.

    Args:
        config: of the network.
        folder: of the pipeline, or of a network in it, or the one of all files in the layout of 2022.

    Raises:
        ImporterError: where the scheduler's is damaged, or the pipeline has parts that are not understood.
    """
    if not {"_class_name", "block_out_channels", "block_channels"} & set(config):
        return config, ()
    folder = folder.absolute()  # "." has neither a name nor a parent
    check_parts(folder)
    if (folder / INDEX).exists():
        found = _scheduler(folder)
    else:
        check_parts(folder.parent)
        places = [folder, *[parent for parent in list(folder.parents)[:ABOVE] if _is_pipeline(parent)]]
        found = next((file for file in map(_scheduler, places) if file is not None), None)
    return (config, ()) if found is None else ({**config, "scheduler": json_file(found)}, (found,))


def check_pipeline(folder: Path) -> None:
    """See that a folder is of a pipeline that is understood, where it says of which one it is.

    Raises:
        ImporterError: where it is another one, or has parts that are not understood.
    """
    check_parts(folder)
    index = inside(folder, INDEX)
    kind = None if index is None else json_file(index).get("_class_name")
    if kind is not None and (not isinstance(kind, str) or kind.removesuffix("Pipeline") not in PIPELINES):
        raise ImporterError(
            f"{folder} is a {ascii(str(kind))[1:-1][:60]}; expected one of {', '.join(PIPELINES)} (Pipeline), whose "
            f"one network predicts pixels. Where this one's does too, give its folder alone, {folder / 'unet'}; else: "
            f"{WAY}"
        )


def check_parts(folder: Path) -> None:
    """See that a pipeline has a network of pixels and a scheduler, and no other parts.

    Raises:
        ImporterError: where it has others, all of them named.
    """
    index = inside(folder, INDEX)
    if index is None:
        parts = {name: name for name in LATENT if (folder / name / "config.json").is_file()}
        kind = "a pipeline"
    else:
        said = json_file(index)
        parts, kind = _strange(said), f"a {ascii(str(said.get('_class_name')))[1:-1][:60]}"
    if parts:
        shown = ", ".join(f"{ascii(name)[1:-1][:40]} ({what})" for name, what in list(parts.items())[:6])
        raise ImporterError(
            f"{folder} is {kind} with parts that pplemd does not understand: {shown}; expected a UNet2DModel and a "
            f"scheduler alone, which predict pixels: what another part makes of them would be left out. {WAY}"
        )


def _strange(said: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a pipeline that are not understood, with their classes."""
    found = {}
    for name, value in said.items():
        if name.startswith("_") or not isinstance(value, list) or not any(isinstance(item, str) for item in value):
            continue  # a setting, or a part that is left out: [null, null]
        kind = str(value[-1])
        if kind not in UNDERSTOOD and not (name.endswith("scheduler") or kind.endswith("Scheduler")):
            found[name] = ascii(kind)[1:-1][:60]
    return found


def _is_pipeline(folder: Path) -> bool:
    return (folder / INDEX).exists() or (folder / "scheduler" / "scheduler_config.json").exists()


def _scheduler(folder: Path) -> Path | None:
    """The noise schedule of a diffusers model, which its network does not know."""
    found = [inside(folder, place) for place in ("scheduler/scheduler_config.json", "scheduler_config.json")]
    return next((path for path in found if path is not None), None)
