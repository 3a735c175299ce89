"""pplemd sample: draw from a run's one-step generator."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import options, show


class Format(enum.StrEnum):
    """What to write."""

    png = "png"
    npz = "npz"


def sample(
    run: options.RunPath,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many samples.")] = 100,
    label: Annotated[int | None, typer.Option(help="One class for all of them.", show_default=False)] = None,
    seed: options.Seed = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write, .png or .npz; by default RUN/sample.png.", show_default=False)
    ] = None,
    format: Annotated[
        Format, typer.Option(help="What to write in the run folder, where there is no --out.")
    ] = Format.png,
    model: options.OtherFile = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Draw from a run's generator, one network evaluation a sample: a picture, or arrays in an .npz file.

    The .npz holds x (count, ...) in data units and, for a class-conditional generator, label (count,).

    For example:

        pplemd sample runs/digits

        pplemd sample runs/digits -n 50000 --out digits.npz --seed 3
    """
    options.prepare(device, debug)
    from pplemd.runs import drawing, record
    from pplemd.storage.folder import RunFolder
    from pplemd.viewing.progress import Terminal

    told = Terminal()
    target = out or run / f"sample.{format}"
    drawing.check_format(target)
    loaded = record.load(RunFolder(run), model, told.say)
    samples = drawing.draw_samples(loaded.distilled, count, label, seed or 0, told)
    drawing.save_samples(target, samples, loaded.distilled.problem.output.shape)
    rate = round(samples.per_second)
    line = f"{target}: {count:,} samples of step {loaded.step:,}, {rate:,} a second"
    show.either(json, {"out": str(target), "count": count, "step": loaded.step, "per_second": rate}, line)
