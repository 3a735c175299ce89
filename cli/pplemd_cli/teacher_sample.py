"""pplemd teacher sample: see that a checkpoint draws what it should."""

from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import options
from pplemd_cli import show as printing


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
