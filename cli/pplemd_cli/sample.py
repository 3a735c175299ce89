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
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many samples.")] = 100,
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
        bool, typer.Option("--correct", help="Resample by importance weights; needs em.networks.CouplingFlow.")
    ] = False,
    beside: Annotated[
        bool,
        typer.Option("--beside", help="A picture: the teacher's samples beside them, a class in each row."),
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

        pplemd sample runs/mnist --beside --out mnist.png

        pplemd sample runs/eight_schools -n 20000 --format netcdf --correct
    """
    options.prepare(device, debug)
    from pplemd.runs import drawing, fit_drawing, loading
    from pplemd.runs.portrait import fit_portrait
    from pplemd.storage.folder import RunFolder
    from pplemd.viewing.pictures import save_png
    from pplemd.viewing.progress import Terminal

    told = Terminal()
    target = out or run / f"sample.{SUFFIX[format]}"
    drawing.check_format(target)
    drawing.refuse_together(target, label, correct, beside)
    loaded = loading.load_any(RunFolder(run), model, told.say)
    if isinstance(loaded, loading.LoadedFit):
        fit_drawing.refuse_options(label, correct, beside)
        portrait = fit_portrait(loaded.fitted, count, seed or 0) if target.suffix == ".png" else None
        if portrait is not None:
            save_png(target, portrait)
            line = f"{target}: what the program of step {loaded.step:,} generates, given nothing"
            show.either(json, {"out": str(target), "count": count, "step": loaded.step}, line)
            return
        drawn = fit_drawing.draw_posterior(loaded.fitted, loaded.plan.fit.recipe.judging, count, seed or 0, told)
        fit_drawing.save_posterior(target, drawn, loaded.step)
        rate, kept = round(drawn.per_second), {"out": str(target), "count": drawn.count, "step": loaded.step}
        line = (
            f"{target}: {drawn.count:,} draws of the latents of step {loaded.step:,} given the data, {rate:,} a second"
        )
        show.either(json, {**kept, "per_second": rate}, line)
        return
    if beside:
        from pplemd.runs.beside import picture_beside

        save_png(target, picture_beside(loaded, seed or 0, told))
        line = f"{target}: samples of the teacher, and of step {loaded.step:,} at its right"
        show.either(json, {"out": str(target), "step": loaded.step}, line)
        return
    if correct:
        samples, weighted = drawing.corrected_samples(loaded, count, seed or 0)
        told.say(weighted.word)
    else:
        samples, weighted = drawing.draw_samples(loaded.distilled, count, label, seed or 0, told), None
    if target.suffix == ".nc":
        drawing.save_named(target, samples.x, loaded, weighted)
    else:
        drawing.save_samples(target, samples, loaded.distilled.problem.output.shape)
    rate = round(samples.per_second)
    line = f"{target}: {count:,} samples of step {loaded.step:,}, {rate:,} a second"
    figures = {} if weighted is None else {"pareto_k": weighted.k_hat, "effective_draws": weighted.effective}
    show.either(json, {"out": str(target), "count": count, "step": loaded.step, "per_second": rate, **figures}, line)
