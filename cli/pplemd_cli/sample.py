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
    netcdf = "netcdf"


SUFFIX = {Format.png: "png", Format.npz: "npz", Format.netcdf: "nc"}


def sample(
    run: options.RunPath,
    count: Annotated[
        int | None, typer.Option("--count", "-n", min=1, help="How many samples; else 100.", show_default=False)
    ] = None,
    label: Annotated[int | None, typer.Option(help="One class for all of them.", show_default=False)] = None,
    seed: options.Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write, .png, .npz or .nc; by default RUN/sample.png.", show_default=False),
    ] = None,
    format: Annotated[
        Format, typer.Option(help="What to write in the run folder, where there is no --out.")
    ] = Format.png,
    correct: Annotated[
        int,
        typer.Option(
            "--correct",
            count=True,
            show_default=False,
            help="Resample by importance weights; needs em.networks.CouplingFlow. Twice: by unreliable ones, too.",
        ),
    ] = 0,
    side_by_side: Annotated[
        bool,
        typer.Option("--side-by-side", help="A picture: the teacher's samples beside them, a class in each row."),
    ] = False,
    model: options.OtherFile = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Draw from a run's generator, one network evaluation a sample: a picture, arrays in an .npz file, or netCDF.

    Of a fit, the latents given the data are drawn, by chains, and data given nothing (group prior_predictive); a
    picture shows what it generates given nothing, or where it generates nothing, its latents.

    The .npz holds x (count, ...) in data units and, for a class-conditional generator, label (count,). The netCDF file
    is for ArviZ: group posterior, one chain, the values of a posterior in its model's own names.

    For example:

        pplemd sample runs/digits

        pplemd sample runs/digits -n 50000 --out digits.npz --seed 3

        pplemd sample runs/mnist --side-by-side --out mnist.png

        pplemd sample runs/eight_schools -n 20000 --format netcdf --correct
    """
    options.prepare(device, debug)
    from pplemd.report.progress import Terminal
    from pplemd.runs import loading
    from pplemd.storage.folder import RunFolder
    from pplemd.tasks.base import DrawOptions
    from pplemd.tasks.drawing import check_format, refuse_together

    reporter, target = Terminal(), out or run / f"sample.{SUFFIX[format]}"
    wanted = DrawOptions(target, count, label, seed or 0, correct, side_by_side)
    check_format(target)
    refuse_together(wanted)
    loaded = loading.load(RunFolder(run), model, reporter.say)
    written = loaded.plan.draw(loaded.result, loaded.step, wanted, reporter)
    show.either(json, {"out": str(target), **written.figures, "step": loaded.step}, f"{target}: {written.line}")
