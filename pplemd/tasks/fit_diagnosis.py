"""Diagnosing a fit: long chains of its latents' posterior, non-centered and in the coordinates that are chosen."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from pplemd.algorithms import MonteCarloEM
from pplemd.algorithms.reparameterization import figures
from pplemd.diagnosis import Row, findings, save_chains, table
from pplemd.errors import RecipeError
from pplemd.keys import named
from pplemd.parameterization import described
from pplemd.report.reporter import AbstractReporter
from pplemd.storage.folder import write_json
from pplemd.tasks.base import AbstractDiagnosis, ChainOptions
from pplemd.tasks.latent_posteriors import posteriors
from pplemd.tasks.override import as_data
from pplemd.tasks.results import Fitted


@dataclasses.dataclass(frozen=True)
class FitDiagnosis(AbstractDiagnosis):
    """A fit whose posterior was sampled at length; its rows are of chains in the chosen coordinates.

    Attributes:
        before: least ESS per gradient of a latent's element, non-centered wherever it is left open.
        after: the same in the chosen coordinates; as before where nothing is chosen.
        choice: the costs behind them and the mean lambdas; nothing where no site may be centered.
        words: the choice for people.
    """

    before: float
    after: float
    choice: dict[str, float]
    words: list[str]

    def lines(self) -> list[str]:
        """The choice, and what it gains."""
        if not self.choice:
            return self.words
        gain = self.after / self.before if self.before else float("nan")
        rates = f"{1e3 * self.before:.3g} non-centered, {1e3 * self.after:.3g} in the chosen coordinates"
        return [*self.words, f"least ESS per 1,000 gradients: {rates} ({gain:.2f} times)", ""]


def diagnose_fit(
    fitted: Fitted,
    algorithm: MonteCarloEM,
    rows_looked_at: int,
    step: int,
    options: ChainOptions,
    folder: Path,
    reporter: AbstractReporter,
) -> FitDiagnosis:
    """Run long chains of the posterior, judge them with ArviZ, and keep all in a folder.

    Chains that are non-centered wherever the program leaves it open come first; the algorithm's policy chooses from
    their draws, and chains in what it chose follow.

    Args:
        fitted: the fitted program.
        algorithm: how it was fitted.
        rows_looked_at: how many, where each row has latents of its own.
        step: of the checkpoint.
        options: what chains.
        folder: where chains.nc, diagnosis.json and the pictures go.
        reporter: shows how it goes.

    Raises:
        RecipeError: where something is given that only a distillation has.
    """
    if options.sigmas or options.label is not None:
        raise RecipeError("--sigma and --label are for distillations; this run is a fit. Leave them out.")
    problem, kernel = fitted.problem, options.kernel or algorithm.chain.kernel
    keys = jax.random.split(named(jax.random.key(options.seed), "diagnosis"), 3)
    of, length = posteriors(fitted, rows_looked_at), (options.chains, options.warm_up, options.draws)
    with reporter.progress("chains", 2) as progress:
        last = of.chains(keys[0], problem.centering(0.0), kernel, length)
        rows = table([last.record()])
        before = after = _least(rows)
        choice, schedule = None, algorithm.reparameterization
        if schedule is not None and any(site.free for site in problem.sites):
            choice = schedule.policy.choose(*of.pilot(last))
        progress.to(1)
        if choice is not None:
            last = of.chains(keys[2], choice.lam, kernel, length)
            rows = table([last.record()])
            after = _least(rows)
        progress.to(2)
    declared = {name: float(lam.mean()) for name, lam in problem.centering(0.0).loc.items()}
    found = FitDiagnosis(
        step=step,
        kernel=as_data(kernel),
        rows=rows,
        findings=findings(rows),
        folder=folder,
        before=before,
        after=after,
        choice={} if choice is None else figures(choice),
        words=[f"{name}: lambda {lam:.2g}, as it is declared or left" for name, lam in declared.items()]
        if choice is None
        else described(choice),
    )
    save_chains(folder / "chains.nc", [last.record()])
    from pplemd.diagnosis.chain_plots import draw_pictures  # here: every command would wait for Matplotlib

    draw_pictures(folder, [last.record()], rows)
    write_json(folder / "diagnosis.json", found.figures())
    return found


def _least(rows: list[Row]) -> float:
    return float(np.min([row.ess_per_gradient for row in rows]))
