"""Commands on teachers alone: train, import, show, sample."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import options, show, stops
from pplemd_cli import show as printing


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


def sample(
    checkpoint: options.TeacherPath,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1024, help="How many samples.")] = 16,
    label: Annotated[
        int | None, typer.Option(help="One class for all; by default one after the other.", show_default=False)
    ] = None,
    steps: Annotated[int, typer.Option(min=2, max=10_000, help="Noise levels, or time steps of DDIM.")] = 18,
    ddim: Annotated[bool, typer.Option("--ddim", help="DDIM on a diffusers pipeline's own time steps.")] = False,
    seed: options.Seed = None,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("teacher.png"),
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Draw a grid of a checkpoint's samples by Heun's method (EDM's sampler) or DDIM, to see that it was read right.

    For example:

        pplemd teacher sample teachers/imagenet64 -n 9 --label 207

        pplemd teacher sample ddpm-cifar10-32 --ddim --steps 50
    """
    options.prepare(device, debug)
    from pplemd.report.progress import Terminal
    from pplemd.runs.imported_teacher import Grid, draw_grid

    seconds = draw_grid(checkpoint, out, Grid(count, label, steps, seed or 0, ddim), Terminal())
    facts = {"picture": str(out), "count": count, "steps": steps, "ddim": ddim, "seconds": round(seconds, 2)}
    printing.either(json, facts, f"{out} shows {count:,} samples of {steps} steps; {seconds:.1f} s with compilation.")


def show_checkpoint(
    checkpoint: options.TeacherPath, json: options.AsJson = False, debug: options.Debug = False
) -> None:
    """Say what a checkpoint is: its family, convention, parameters, shape and classes. Nothing of it is executed.

    Takes the folder that `pplemd teacher import` wrote, or the original. The weights are not read.

    For example:

        pplemd teacher show teachers/imagenet64
    """
    options.prepare(None, debug)
    from pplemd.runs.imported_teacher import show as describe

    facts = describe(checkpoint)
    if json:
        printing.as_json(facts)
        return
    rows = {
        "family": facts["architecture"],
        "convention": facts["convention"],
        "shape": " x ".join(str(size) for size in facts["shape"]),
        "classes": "none" if facts["classes"] is None else f"{facts['classes']:,}",
        "parameters": f"{facts['parameters']:,} in {facts['arrays']:,} arrays of {', '.join(facts['dtypes'])}",
    }
    rows |= {name: facts[name] for name in ("source", "sha256") if name in facts}
    rows |= {name: str(value) for name, value in facts["config"].items() if not isinstance(value, dict)}
    for note in facts["notes"]:
        print(f"{'note':<20} {printing.harmless(note)}")
    for name, value in rows.items():
        print(f"{printing.harmless(name):<20} {printing.harmless(value)}")


teacher = typer.Typer(help="Train a model's teacher; import, show and sample one of another library.")
teacher.command("import")(import_)
teacher.command("show")(show_checkpoint)
teacher.command()(sample)


@teacher.callback(no_args_is_help=True, epilog="Example:  pplemd teacher train models/digits.py")
def group() -> None:
    """Train a model's teacher; import, show and sample one of another library."""


@teacher.command()
def train(
    model: options.ModelFile,
    program: options.ProgramName = None,
    out: Annotated[Path, typer.Option(help="A picture of the teacher's samples.")] = Path("teacher.png"),
    overrides: options.Overrides = None,
    seed: options.Seed = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Train a model's teacher and keep it; distil then finds it ready. Draws a picture of its samples.

    A training that is stopped, even by a kill, goes on with the same command. --set teacher.training.steps=N
    changes its training, and must be given to distill too; --seed is that of the picture.

    For example:

        pplemd teacher train models/digits.py

        pplemd teacher train models/digits.py --set teacher.training.steps=500 --out teacher.png
    """
    options.prepare(device, debug)
    from pplemd.report.progress import Terminal
    from pplemd.runs.declared import declare
    from pplemd.runs.session import show_teacher

    declared = declare(model, program, tuple(overrides or ()))
    with stops.saved("Go on with the same command."):
        seconds = show_teacher(declared, out, seed or 0, Terminal())
    if json:
        show.as_json({"picture": str(out), "seconds_per_1000": seconds})
    else:
        print(f"{out} shows its samples; {seconds:.2f} s for 1,000. The teacher is kept for distill.")
