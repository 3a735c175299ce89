"""pplemd teacher: what concerns the teacher alone."""

from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import options, show
from pplemd_cli.progress import bar

teacher = typer.Typer(help="Train and look at a model's teacher.", no_args_is_help=True)


@teacher.callback()
def group() -> None:
    """Train and look at a model's teacher."""


@teacher.command()
def train(
    model: options.ModelFile,
    program: options.ProgramName = None,
    out: Annotated[Path, typer.Option(help="A picture of the teacher's samples.")] = Path("teacher.png"),
    seed: options.Seed = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Train a model's teacher and keep it; distil then finds it ready. Draws a picture of its samples.

    Example:

        pplemd teacher train models/digits.py --out teacher.png
    """
    options.prepare(device, debug)
    import numpy as np
    from pplemd import runs
    from pplemd.evaluation import draw_teacher
    from pplemd.model import plan
    from pplemd.pictures import draw, save_png

    from pplemd_cli.teach import taught

    declared = runs.declare(model, program)
    planned = plan(declared.model)
    ready = taught(declared.model.teacher)
    with bar("sample ", 1.0) as progress:
        drawn = draw_teacher(ready, planned.labels, seed or 0, progress.to)
    save_png(out, draw(np.asarray(drawn.x), planned.teacher.shape))
    figures = {"picture": str(out), "seconds_per_1000": drawn.seconds_per_1000}
    if json:
        show.as_json(figures)
    else:
        print(f"{out} shows its samples; {drawn.seconds_per_1000:.2f} s for 1,000. The teacher is kept for distil.")
