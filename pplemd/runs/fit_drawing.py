"""Draws of a fitted program: its latents given the data, and data given nothing."""

import dataclasses
import io
import time
from pathlib import Path

import jax
import numpy as np

from pplemd.diagnosis import save_groups
from pplemd.errors import RecipeError
from pplemd.learning import Judging
from pplemd.plotting.samples import save_png
from pplemd.plotting.scatters import scatter
from pplemd.report.reporter import AbstractNarrator
from pplemd.runs.drawing import check_format
from pplemd.storage.folder import write
from pplemd.tasks.fitting import Fitted
from pplemd.tasks.latent_posteriors import posteriors


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
    fitted: Fitted, judging: Judging, count: int, seed: int, narrator: AbstractNarrator
) -> PosteriorSamples:
    """Draw latents given the data by chains, and data given nothing.

    Args:
        fitted: the program.
        judging: which chains, how many, and their warm-up.
        count: draws in all; rounded up to a multiple of the chains.
        seed: seed of everything random.
        narrator: told how it goes.
    """
    key_chains, key_data = jax.random.split(jax.random.key(seed))
    of, each = posteriors(fitted, judging.rows), max(-(-count // judging.chains), 1)
    began = time.perf_counter()
    with narrator.task("sample", 1.0) as task:
        drawn = of.chains(key_chains, fitted.centering, judging.kernel, (judging.chains, judging.warm_up, each))
        values = {name: np.asarray(value) for name, value in drawn.values.items()}
        seconds = time.perf_counter() - began
        task.to(0.8)
        without = fitted.unsimulated()
        simulated = fitted.simulate(key_data, judging.chains * each, tuple(without))
        data = {name: np.asarray(y)[None] for name, y in simulated.items()}
        task.to(1.0)
    for reason in without.values():
        narrator.say(f"Left out of the draws: {reason}")
    rows = None if of.rows is None else tuple(int(row) for row in of.rows)
    count = judging.chains * each
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
        save_png(path, scatter(np.concatenate([value.reshape(len(value), -1) for value in flat.values()], axis=1)))
        return
    buffer = io.BytesIO()
    data = {f"prior_predictive.{name}": value[0] for name, value in samples.prior_predictive.items()}
    np.savez(buffer, **flat, **data)  # type: ignore[arg-type]  # numpy 2.1 added one flag among the names
    write(path, buffer.getvalue())


def refuse_options(label: int | None, correct: bool, beside: bool) -> None:
    """See that nothing was asked for that only a distilled generator has.

    Raises:
        RecipeError: where something was.
    """
    if label is not None or correct or beside:
        raise RecipeError(
            "--label and --correct are for distilled generators, as is --beside; this run is a fit, whose latents are "
            "drawn by chains of their posterior. Leave them out."
        )
