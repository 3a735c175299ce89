"""pplemd teacher: what concerns the teacher alone."""

from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import options, show, stops
from pplemd_cli.teacher_import import import_
from pplemd_cli.teacher_sample import sample
from pplemd_cli.teacher_show import show as show_checkpoint

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
