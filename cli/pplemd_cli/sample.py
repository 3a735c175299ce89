"""pplemd sample: draw from a run's one-step generator."""

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pplemd_cli import options, show

if TYPE_CHECKING:
    from pplemd.report.reporter import AbstractNarrator
    from pplemd.runs.drawing import Samples
    from pplemd.runs.loading import Loaded, LoadedFit
    from pplemd.tasks.importance import Weighted


class Format(enum.StrEnum):
    """What to write."""

    png = "png"
    npz = "npz"
    netcdf = "netcdf"


USUAL = 100  # samples
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
    from pplemd.report.progress import Terminal
    from pplemd.runs import drawing, fit_drawing, loading
    from pplemd.storage.folder import RunFolder

    told, target = Terminal(), out or run / f"sample.{SUFFIX[format]}"
    drawing.check_format(target)
    drawing.refuse_together(target, count, label, bool(correct), beside)
    count, seed = count or USUAL, seed or 0
    loaded = loading.load_any(RunFolder(run), model, told.say)
    if isinstance(loaded, loading.LoadedFit):
        fit_drawing.refuse_options(label, bool(correct), beside)
        found, line = _of_fit(loaded, target, count, seed, told)
    elif beside:
        found, line = _beside_teacher(loaded, target, seed, told)
    elif correct:
        found, line = _corrected(loaded, target, (count, seed, correct > 1), told)
    else:
        found, line = _of_run(loaded, target, count, label, seed, told)
    show.either(json, {"out": str(target), **found, "step": loaded.step}, f"{target}: {line}")


Told = tuple[dict[str, float], str]  # figures for programs, and a line for people


def _of_fit(loaded: "LoadedFit", target: Path, count: int, seed: int, told: "AbstractNarrator") -> Told:
    """A picture of what a fit generates given nothing; else its latents given the data, by chains."""
    from pplemd.plotting.samples import save_png
    from pplemd.runs import fit_drawing
    from pplemd.runs.portrait import fit_portrait

    portrait = fit_portrait(loaded.fitted, count, seed) if target.suffix == ".png" else None
    if portrait is not None:
        save_png(target, portrait)
        return {"count": count}, f"what the program of step {loaded.step:,} generates, given nothing"
    drawn = fit_drawing.draw_posterior(loaded.fitted, loaded.plan.fit.recipe.judging, count, seed, told)
    fit_drawing.save_posterior(target, drawn, loaded.step)
    rate, what = round(drawn.per_second), f"draws of the latents of step {loaded.step:,} given the data"
    return {"count": drawn.count, "per_second": rate}, f"{drawn.count:,} {what}, {rate:,} a second"


def _beside_teacher(loaded: "Loaded", target: Path, seed: int, told: "AbstractNarrator") -> Told:
    """A picture of the teacher's samples and the run's."""
    from pplemd.plotting.samples import save_png
    from pplemd.runs.side_by_side import picture_beside

    save_png(target, picture_beside(loaded, seed, told))
    return {}, f"samples of the teacher, and of step {loaded.step:,} at its right"


def _corrected(loaded: "Loaded", target: Path, wanted: tuple[int, int, bool], told: "AbstractNarrator") -> Told:
    """Samples resampled by their importance weights, and how good these were; wanted are count, seed and insistence."""
    from pplemd.runs import drawing

    samples, weighted = drawing.corrected_samples(loaded, *wanted)
    told.say(weighted.word)
    if len(samples.x) < wanted[0]:
        told.say(f"{len(samples.x):,} samples in place of {wanted[0]:,}: more of them would say nothing new.")
    found, line = _saved(loaded, target, samples, weighted)
    return {**found, "pareto_k": weighted.k_hat, "effective_draws": weighted.effective}, line


def _of_run(loaded: "Loaded", target: Path, count: int, label: int | None, seed: int, told: "AbstractNarrator") -> Told:
    """Samples of a run's generator."""
    from pplemd.runs import drawing

    return _saved(loaded, target, drawing.draw_samples(loaded.distilled, count, label, seed, told), None)


def _saved(loaded: "Loaded", target: Path, samples: "Samples", weighted: "Weighted | None") -> Told:
    from pplemd.runs import drawing

    if target.suffix == ".nc":
        drawing.save_named(target, samples.x, loaded, weighted)
    else:
        drawing.save_samples(target, samples, loaded.distilled.problem.output.shape, weighted)
    count, rate = len(samples.x), round(samples.per_second)
    return {"count": count, "per_second": rate}, f"{count:,} samples of step {loaded.step:,}, {rate:,} a second"
