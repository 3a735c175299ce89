"""Diagnosing a fit: long chains of its latents' posterior, non-centered and in the coordinates that are chosen."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pplemd.diagnosis import Finding, Row, findings, save, table
from pplemd.diagnosis.chain_plots import draw_pictures
from pplemd.errors import RecipeError
from pplemd.learning import FitRecipe, figures
from pplemd.parameterization import Choice, Situation, described
from pplemd.report.reporter import AbstractNarrator
from pplemd.runs.diagnose import Wanted
from pplemd.runs.loading import LoadedFit
from pplemd.storage.folder import RunFolder, write_json
from pplemd.tasks.latent_posteriors import Posteriors, posteriors
from pplemd.tasks.override import as_data


@dataclasses.dataclass(frozen=True)
class FitDiagnosis:
    """A fit whose posterior was sampled at length.

    Attributes:
        step: step of the checkpoint.
        kernel: the transition, as JSON data.
        rows: ArviZ's figures by site, of chains in the chosen coordinates.
        findings: what is wrong, the most serious first.
        before: least ESS per gradient of a latent's element, non-centered wherever it is left open.
        after: the same in the chosen coordinates; as before where nothing is chosen.
        choice: the costs behind them and the mean lambdas; nothing where no site may be centered.
        words: the choice for people.
        folder: where chains.nc, diagnosis.json and the pictures lie.
    """

    step: int
    kernel: dict[str, Any]
    rows: list[Row]
    findings: list[Finding]
    before: float
    after: float
    choice: dict[str, float]
    words: list[str]
    folder: Path


def diagnose_fit(folder: RunFolder, loaded: LoadedFit, wanted: Wanted, narrator: AbstractNarrator) -> FitDiagnosis:
    """Run long chains of the posterior, judge them with ArviZ, and keep all in RUN/diagnosis/.

    Chains that are non-centered wherever the program leaves it open come first; the recipe's policy chooses from their
    draws, and chains in what it chose follow.

    Args:
        folder: the run.
        loaded: what was read from it.
        wanted: what chains.
        narrator: told how it goes.

    Raises:
        RecipeError: where something is asked that only a distillation has.
    """
    if wanted.sigmas or wanted.label is not None:
        raise RecipeError("--sigma and --label are for distillations; this run is a fit. Leave them out.")
    recipe, problem = loaded.plan.fit.recipe, loaded.plan.problem
    kernel = wanted.kernel(recipe)
    key_before, key_choice, key_after = jax.random.split(jax.random.fold_in(jax.random.key(wanted.seed), 0xD1A6), 3)
    of, length = posteriors(loaded.fitted, recipe.judging.rows), (wanted.chains, wanted.warm_up, wanted.draws)
    with narrator.task("chains", 2) as task:
        first = of.chains(key_before, problem.centering(0.0), kernel, length)
        rows = table([first.record()])
        before = after = _least(rows)
        choice = _chosen(of, first, recipe, key_choice)
        task.to(1)
        last = first
        if choice is not None:
            last = of.chains(key_after, choice.lam, kernel, length)
            rows = table([last.record()])
            after = _least(rows)
        task.to(2)
    found = FitDiagnosis(
        step=loaded.step,
        kernel=as_data(kernel),
        rows=rows,
        findings=findings(rows),
        before=before,
        after=after,
        choice={} if choice is None else figures(choice),
        words=_declared(loaded) if choice is None else described(choice),
        folder=folder.path / "diagnosis",
    )
    save(found.folder / "chains.nc", [last.record()])
    draw_pictures(found.folder, [last.record()], rows)
    write_json(found.folder / "diagnosis.json", as_json(found))
    return found


def as_json(found: FitDiagnosis) -> dict[str, Any]:
    """A diagnosis as JSON data, its folder left out."""
    return {name: value for name, value in dataclasses.asdict(found).items() if name != "folder"}


def _chosen(of: Posteriors, drawn: Any, recipe: FitRecipe, key: Any) -> Choice | None:
    """The policy's choice from these draws; None where nothing is left to be chosen."""
    if recipe.choosing is None or not any(site.free for site in of.fitted.problem.sites):
        return None
    return recipe.choosing.policy.choose(key, Situation(*of.pilot(drawn)))


def _declared(loaded: LoadedFit) -> list[str]:
    """Sites that may be centered, where nothing is chosen."""
    lambdas = {name: float(lam.mean()) for name, lam in loaded.plan.problem.centering(0.0).loc.items()}
    return [f"{name}: lambda {lam:.2g}, as it is declared or left" for name, lam in lambdas.items()]


def _least(rows: list[Row]) -> float:
    return float(np.min([row.ess_per_gradient for row in rows]))
