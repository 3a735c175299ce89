"""pplemd teacher import: keep a checkpoint of another library as a teacher folder."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import options, show


def import_(
    checkpoint: options.TeacherPath,
    out: Annotated[Path, typer.Option(help="The teacher's folder, which must not exist yet.", show_default=False)],
    json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Read a checkpoint of another library, executing nothing, and keep it as a folder.

    Reads EDM's .pkl, diffusers folders of a UNet2DModel, safetensors or torch.save state dicts with a config.json
    beside them, and .npz files, of these networks and of pixel transformers. Writes OUT/teacher.json and
    OUT/weights.safetensors, both or neither. Whatever else a file asks for is refused and named.

    For example:

        pplemd teacher import edm-imagenet-64x64-cond-adm.pkl --out teachers/imagenet64

        pplemd teacher import ddpm-cifar10-32 --out teachers/cifar10
    """
    options.prepare(None, debug)
    from pplemd.runs.imported_teacher import import_teacher

    facts = import_teacher(checkpoint, out)
    again = f"pplemd teacher sample {shlex.quote(str(out))}"
    line = f"{out}: {facts['architecture']}, {facts['parameters']:,} parameters. See it by {again}"
    said = [f"convention: {facts['convention']}", *(f"note: {note}" for note in facts["notes"])]
    show.either(json, {"out": str(out), **facts}, "\n".join([line, *map(show.harmless, said)]))
