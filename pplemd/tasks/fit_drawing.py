"""Draws of a fitted program: its latents given the data, and data given nothing."""

import dataclasses
import io
import time
from pathlib import Path

import jax
import numpy as np

from pplemd.diagnosis import save_groups
from pplemd.errors import RecipeError
from pplemd.plotting.samples import save_png
from pplemd.report.reporter import AbstractReporter
from pplemd.storage.folder import write
from pplemd.tasks.base import DrawOptions, Written
from pplemd.tasks.diagnostics import Diagnostics
from pplemd.tasks.drawing import USUAL, check_format
from pplemd.tasks.latent_posteriors import posteriors
from pplemd.tasks.results import Fitted


@dataclasses.dataclass(frozen=True)
class PosteriorSamples:
    """Draws of a fitted program, by chains.

    Attributes:
        posterior: latents given the data, by site, (chain, draw, *shape); with an axis of rows where rows are looked
            at.
        prior_predictive: data given nothing, by observation, (1, chain x draw, *shape).
        unsimulated: observations that it leaves out, since their laws cannot be drawn from, and why.
        rows: which rows of the program's plate; None for all data.
        count: draws of the posterior, of all chains.
        per_second: draws of the posterior in a second, warm-up and compilation in it.
    """

    posterior: dict[str, np.ndarray]
    prior_predictive: dict[str, np.ndarray]
    unsimulated: dict[str, str]
    rows: tuple[int, ...] | None
    count: int
    per_second: float


def draw_posterior(
    fitted: Fitted, diagnostics: Diagnostics, count: int, seed: int, reporter: AbstractReporter
) -> PosteriorSamples:
    """Draw latents given the data by chains, and data given nothing.

    Args:
        fitted: the program.
        diagnostics: which chains, how many, and their warm-up.
        count: draws in all; rounded up to a multiple of the chains.
        seed: seed of everything random.
        reporter: shows how it goes.
    """
    key_chains, key_data = jax.random.split(jax.random.key(seed))
    of, each = posteriors(fitted, diagnostics.rows), max(-(-count // diagnostics.chains), 1)
    began = time.perf_counter()
    with reporter.progress("sample", 1.0) as progress:
        drawn = of.chains(
            key_chains, fitted.centering, diagnostics.kernel, (diagnostics.chains, diagnostics.warm_up, each)
        )
        values = {name: np.asarray(value) for name, value in drawn.values.items()}
        seconds = time.perf_counter() - began
        progress.to(0.8)
        without = fitted.unsimulated()
        simulated = fitted.simulate(key_data, diagnostics.chains * each, tuple(without))
        data = {name: np.asarray(y)[None] for name, y in simulated.items()}
        progress.to(1.0)
    for reason in without.values():
        reporter.say(f"Left out of the draws: {reason}")
    rows = None if of.rows is None else tuple(int(row) for row in of.rows)
    count = diagnostics.chains * each
    return PosteriorSamples(values, data, without, rows, count, count / seconds)


def save_posterior(path: Path, samples: PosteriorSamples, step: int) -> None:
    """Write draws, whole or not at all: .nc for ArviZ, .npz of arrays, .png of the latents.

    The .npz holds the latents by name, chains one after the other, and simulated data as prior_predictive.NAME.

    Raises:
        PplemdError: where the name ends otherwise, or the file cannot be written.
    """
    check_format(path)
    if path.suffix == ".nc":
        groups = {"posterior": samples.posterior, "prior_predictive": samples.prior_predictive}
        rows = {} if samples.rows is None else {"rows": list(samples.rows)}
        without = {f"not_simulated.{name}": reason for name, reason in samples.unsimulated.items()}
        known = {name: group for name, group in groups.items() if group}
        save_groups(path, known, {"step": step, **rows, **without})
        return
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in samples.posterior.items()}
    if path.suffix == ".png":
        from pplemd.plotting.scatters import scatter  # here: every command would wait for Matplotlib

        save_png(path, scatter(np.concatenate([value.reshape(len(value), -1) for value in flat.values()], axis=1)))
        return
    buffer = io.BytesIO()
    data = {f"prior_predictive.{name}": value[0] for name, value in samples.prior_predictive.items()}
    np.savez(buffer, **flat, **data)  # type: ignore[arg-type]  # numpy 2.1 added one flag among the names
    write(path, buffer.getvalue())


def draw_fit(
    fitted: Fitted, diagnostics: Diagnostics, step: int, options: DrawOptions, reporter: AbstractReporter
) -> Written:
    """Draw a picture of what a fit generates given nothing; else its latents given the data, by chains.

    Raises:
        RecipeError: where an option is given that only a distilled generator has.
    """
    if options.label is not None or options.correct or options.side_by_side:
        raise RecipeError(
            "--label and --correct are for distilled generators, as is --side-by-side; this run is a fit, whose "
            "latents are drawn by chains of their posterior. Leave them out."
        )
    count = options.count or USUAL
    picture = fitted.picture(options.seed, count) if options.target.suffix == ".png" else None
    if picture is not None:
        save_png(options.target, picture)
        return Written({"count": count}, f"what the program of step {step:,} generates, given nothing")
    drawn = draw_posterior(fitted, diagnostics, count, options.seed, reporter)
    save_posterior(options.target, drawn, step)
    rate, what = round(drawn.per_second), f"draws of the latents of step {step:,} given the data"
    return Written({"count": drawn.count, "per_second": rate}, f"{drawn.count:,} {what}, {rate:,} a second")
