"""Folders of unknown origin: their links, their JSON, and the parts of diffusers pipelines."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

from pplemd.errors import ImporterError
from pplemd.importers.views import view

MAX_DEPTH = 64  # of lists and objects in each other; configurations have some five
MAX_BYTES = 4 * 2**20  # of a document: unpacked, it takes up to some thirty times as much


def json_object(raw: bytes | memoryview, what: str) -> dict[str, Any]:
    """A JSON object.

    Args:
        raw: its text, in UTF-8.
        what: what it is called in a message.

    Raises:
        ImporterError: where it is none, is larger than any configuration, or has a name twice.
    """
    if len(raw) > MAX_BYTES:
        raise ImporterError(f"{what} has {len(raw):,} bytes; expected a JSON object of at most {MAX_BYTES:,}.")
    try:
        value = json.loads(bytes(raw).decode(), object_pairs_hook=_unique, parse_constant=_constant)
        # whether lists and objects lie in each other so deep that a recursion over them could fail
        level = [value]
        for _ in range(MAX_DEPTH):
            inner = [
                item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)
            ]
            level = list(itertools.chain.from_iterable(inner))
        deep = any(isinstance(item, dict | list) for item in level)
        if deep:
            raise RecursionError
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ImporterError(f"{what} is no sound JSON ({reason}); expected one object. Download it again.") from error
    if not isinstance(value, dict):
        raise ImporterError(f"{what} is a JSON {type(value).__name__}; expected an object.")
    return value


def json_file(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ImporterError: where there is none.
    """
    return json_object(view(path), str(path))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _constant(word: str) -> float:
    if word == "NaN":
        raise ValueError("NaN is no value of a configuration")
    return math.inf if word == "Infinity" else -math.inf


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
        # the parts of a pipeline that are not understood, with their classes
        found = {}
        for name, value in said.items():
            if name.startswith("_") or not isinstance(value, list) or not any(isinstance(item, str) for item in value):
                continue  # a setting, or a part that is left out: [null, null]
            kind = str(value[-1])
            if kind not in UNDERSTOOD and not (name.endswith("scheduler") or kind.endswith("Scheduler")):
                found[name] = ascii(kind)[1:-1][:60]
        parts, kind = found, f"a {ascii(str(said.get('_class_name')))[1:-1][:60]}"
    if parts:
        shown = ", ".join(f"{ascii(name)[1:-1][:40]} ({what})" for name, what in list(parts.items())[:6])
        raise ImporterError(
            f"{folder} is {kind} with parts that pplemd does not understand: {shown}; expected a UNet2DModel and a "
            f"scheduler alone, which predict pixels: what another part makes of them would be left out. {WAY}"
        )


def _is_pipeline(folder: Path) -> bool:
    return (folder / INDEX).exists() or (folder / "scheduler" / "scheduler_config.json").exists()


def _scheduler(folder: Path) -> Path | None:
    """The noise schedule of a diffusers model, which its network does not know."""
    found = [inside(folder, place) for place in ("scheduler/scheduler_config.json", "scheduler_config.json")]
    return next((path for path in found if path is not None), None)
