"""What is made of a fitted program: draws, figures, and long chains of its latents' posterior."""

import dataclasses
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.algorithms import Convergence, MonteCarloEM
from pplemd.algorithms.reparameterization import figures
from pplemd.diagnosis import (
    FEWEST,
    RELIABLE,
    Chains,
    Finding,
    Row,
    findings,
    pareto_smoothed,
    save_chains,
    save_groups,
    table,
)
from pplemd.dsl import Centering, Problem, check_probability
from pplemd.errors import RecipeError
from pplemd.inference import (
    FEWEST_EFFECTIVE,
    AbstractKernel,
    Marginal,
    Potential,
    Run,
    TiltedTarget,
    annealed_marginal,
    climbed,
    importance_marginal,
    long_chains,
    normal_proposal,
    transformed,
)
from pplemd.keys import named
from pplemd.parameterization import Pilot, Placement, described
from pplemd.plotting.samples import save_png
from pplemd.report.progress import AbstractReporter
from pplemd.storage.folder import write, write_json
from pplemd.tasks.base import AbstractDiagnosis, AbstractReport, ChainOptions, Diagnostics, DrawOptions, Written
from pplemd.tasks.drawing import USUAL, check_format
from pplemd.tasks.override import as_data
from pplemd.tasks.results import Fitted

Values = dict[str, Array]
CHECKED = 16  # draws at which probabilities are looked at
ANNEALED, LEVELS = (
    64,
    500,
)  # draws and transitions of annealed importance sampling, where no normal distribution will do


class Drawn(eqx.Module):
    """Chains of a posterior.

    Attributes:
        run: the chains, in the coordinates that they moved in.
        u: the same draws in base coordinates; leading dimensions chain and draw.
        values: the latents, by site; leading dimensions chain and draw, and row where rows are looked at.
    """

    run: Run
    u: Values
    values: Values

    def record(self) -> Chains:
        """For diagnosis: the latents' own values, whatever the coordinates."""
        run = self.run
        return Chains(
            None,
            {name: np.asarray(value) for name, value in self.values.items()},
            np.asarray(run.acceptance),
            np.asarray(run.diverging),
            np.asarray(run.energy),
            max(round(float(np.mean(run.gradients))), 1),
            run.adjusted,
        )


class Posteriors(eqx.Module):
    """The posterior of a fitted program's latents.

    Attributes:
        fitted: the program.
        rows: which rows of its plate, each with latents of its own; None for all data together.
    """

    fitted: Fitted
    rows: Int[Array, " rows"] | None

    def law(self, lam: Centering) -> TiltedTarget:
        """The joint distribution of the latents of all rows, in the coordinates of lam."""
        return transformed(self._base, lambda v: self._place(v, lam))

    @property
    def _base(self) -> TiltedTarget:
        """The same in base coordinates."""
        program = self.fitted.program
        unravel = ravel_pytree(self._each(lambda of: _zeros(of)))[1]

        def energy(x: Array) -> Array:
            return -jnp.sum(self._each(lambda of, u: of.log_likelihood(program, u), unravel(x)))

        def log_base(u: Values) -> Array:
            return jnp.sum(self._each(lambda of, one: of.log_base(program, one), u))

        return TiltedTarget(lambda u: ravel_pytree(u)[0], Potential(energy), log_base)

    @eqx.filter_jit
    def chains(self, key: PRNGKeyArray, lam: Centering, kernel: AbstractKernel, wanted: tuple[int, int, int]) -> Drawn:
        """Long chains from where draws of the prior climb to, in the coordinates of lam.

        Args:
            key: a key.
            lam: whose coordinates.
            kernel: the transition.
            wanted: how many chains, warm-up and kept draws.
        """
        count, warm_up, draws = wanted
        key_start, key_run = jax.random.split(key)
        starts = jax.vmap(lambda k: self._start(k, lam))(jax.random.split(key_start, count))
        run = long_chains(key_run, self.law(lam), kernel, starts, warm_up, draws)
        u = jax.vmap(jax.vmap(lambda v: self._place(v, lam)[0]))(run.positions)
        return Drawn(run, u, jax.vmap(jax.vmap(self.values))(u))

    def values(self, u: Values) -> Values:
        """The latents' values at base coordinates; rows in the place of the plate's axis."""
        values = self._each(lambda of, one: of.latents(self.fitted.program, one), u)
        if self.rows is None or self.fitted.problem.single:
            return values
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), values)

    @eqx.filter_jit
    def pilot(self, drawn: Drawn) -> tuple[Placement, Pilot]:
        """Draws of chains with their scores, for a policy; rows are groups of their own."""
        placement = Placement(self.fitted.problem, self.fitted.program)
        u = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), drawn.u)
        score = jax.vmap(self._base_score)(u)
        if self.rows is None:
            return placement, Pilot(u, score)
        count = jax.tree.leaves(u)[0].shape[0]

        def by_row(leaf: Array) -> Array:
            return jnp.swapaxes(leaf, 0, 1).reshape(-1, *leaf.shape[2:])

        u, score = jax.tree.map(by_row, (u, score))
        return placement, Pilot(u, score, rows=jnp.repeat(self.rows, count), groups=self.rows.shape[0])

    @eqx.filter_jit
    def marginal(self, key: PRNGKeyArray, u: Values, draws: int) -> Marginal:
        """An estimate of log p(y), of each row where rows are looked at, from draws of the posterior.

        Importance sampling from a normal distribution of the draws; annealed, from the prior, of rows, whose posteriors
        under a network may be far from normal, and where there are too few draws for such a distribution.

        Args:
            key: a key.
            u: draws of the posterior in base coordinates, a leading dimension draw.
            draws: of the estimate.
        """
        program = self.fitted.program
        count = jax.tree.leaves(u)[0].shape[0]

        def one(of: Problem, own: Values, own_key: PRNGKeyArray) -> Marginal:
            size = sum(int(np.prod(site.base_shape)) for site in of.sites)
            if self.rows is not None or count < 2 * size:
                return annealed_marginal(own_key, of, program, min(draws, ANNEALED), LEVELS)
            # of a normal one of d numbers, 1 + e times its s.d. gives weights of variance exp(2 e^2 d) - 1: here .65
            proposal = normal_proposal(own, 1.0 + min(0.2, 0.5 / size**0.5))
            return importance_marginal(own_key, of, program, proposal, draws)

        if self.rows is None:
            return one(self.fitted.problem, u, key)
        by_row = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), u)
        return self._each(one, by_row, jax.random.split(key, self.rows.shape[0]))

    def check(self, u: Values) -> None:
        """See that discrete data have probabilities.

        Args:
            u: draws in base coordinates, a leading dimension draw; some of them are looked at.

        Raises:
            ProgramError: a log-probability above 0.
        """
        discrete = [one.name for one in self.fitted.problem.observed if one.support.discrete]
        if discrete:
            terms = self._terms(jax.tree.map(lambda leaf: leaf[:: -(-len(leaf) // CHECKED)], u))
            for name in discrete:
                check_probability(terms[name], name)

    @eqx.filter_jit
    def _terms(self, u: Values) -> Values:
        program = self.fitted.program
        return jax.vmap(lambda one: self._each(lambda of, own: of.log_likelihoods(program, own), one))(u)

    def _base_score(self, u: Values) -> Values:
        program = self.fitted.program

        def log_joint(one: Values) -> Array:
            return jnp.sum(self._each(lambda of, v: of.log_likelihood(program, v) + of.log_base(program, v), one))

        return jax.grad(log_joint)(u)

    def _start(self, key: PRNGKeyArray, lam: Centering) -> Values:
        program, count = self.fitted.program, 1 if self.rows is None else self.rows.shape[0]
        key_draw, key_climb = jax.random.split(key)
        keys = key_draw if self.rows is None else jax.random.split(key_draw, count)
        drawn = self._each(lambda of, own_key: of.draw(own_key, program), keys)
        camp = climbed(key_climb, self._base, drawn)  # in coordinates in which what moves together is one number
        return self._each(lambda of, u: of.from_base(program, u, lam), camp.position)

    def _place(self, v: Values, lam: Centering) -> tuple[Values, Float[Array, ""]]:
        u, log_det = self._each(lambda of, one: of.to_base(self.fitted.program, one, lam), v)
        return u, jnp.sum(log_det)

    def _each(self, function: Callable[..., Any], *given: Any) -> Any:
        """A function of the problem, or of each row's problem and that row's part of what is given."""
        problem = self.fitted.problem
        if self.rows is None:
            return function(problem, *given)
        name = problem.plates[0].name
        return jax.vmap(lambda row, *own: function(problem.at({name: row[None]}), *own))(self.rows, *given)


def _zeros(of: Problem) -> Values:
    return {site.name: jnp.zeros(site.base_shape, site.dtype) for site in of.sites}


def posteriors(fitted: Fitted, rows: int) -> Posteriors:
    """The posterior of all data; where each row has latents of its own, of so many rows, evenly spread."""
    if not fitted.by_row:
        return Posteriors(fitted, None)
    size = fitted.problem.plates[0].size
    return Posteriors(fitted, jnp.asarray(np.linspace(0, size - 1, min(rows, size)).astype(np.int32)))


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


@dataclasses.dataclass(frozen=True)
class PosteriorSamples:
    """Draws of a fitted program, by chains.

    Attributes:
        posterior: latents given the data, by site, (chain, draw, *shape); with an axis of rows where rows are looked
            at.
        prior_predictive: data given nothing, by observation, (1, chain x draw, *shape).
        unsimulated: observations that it leaves out, since their distributions cannot be drawn from, and why.
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


LISTED = 20  # numbers of an array that are shown one by one; of a larger one its size, mean and s.d.


@dataclasses.dataclass(frozen=True)
class FitReport(AbstractReport):
    """What a fit ends with.

    Attributes:
        parameters: what was trained, by its path in the program: values, or of large arrays their moments.
        log_marginal: the estimate of log p(y), its standard error and the effective number of its draws; where rows
            are looked at, their mean, with the standard error of a mean over rows. Where the draws cannot tell the
            error it is None, and `doubt` says why.
        posterior: ArviZ's figures of the latents' chains, a row a site, with mean and s.d.
        centering: by site, the mean lambda that the chains moved in.
        seed: seed of the chains and of the estimate.
        findings: what is wrong with the chains, the most serious first.
        convergence: whether the parameters are where the likelihood is greatest; None where its run was not looked at.
    """

    parameters: dict[str, Any]
    log_marginal: dict[str, Any]
    posterior: list[dict[str, Any]]
    centering: dict[str, float]
    seed: int
    findings: list[Finding]
    convergence: Convergence | None = None


def judge_fit(
    fitted: Fitted,
    diagnostics: Diagnostics,
    seed: int = 0,
    advance: Callable[[float], None] = lambda share: None,
    phase: Callable[[str], None] = lambda what: None,
) -> FitReport:
    """Run long chains of the posterior at the fitted program, and estimate its marginal likelihood.

    Args:
        fitted: the program.
        diagnostics: how long.
        seed: seed of chains and estimate; training never uses its key.
        advance: called with the share that is done, 0 to 1.
        phase: called with what is done, before it is.

    Raises:
        ProgramError: where discrete data have probabilities above 1.
    """
    phase("compiling and running the posterior's chains")
    key_chains, key_marginal = jax.random.split(named(jax.random.key(seed), "judging"))
    of = posteriors(fitted, diagnostics.rows)
    wanted = (diagnostics.chains, diagnostics.warm_up, diagnostics.draws)
    drawn = of.chains(key_chains, fitted.centering, diagnostics.kernel, wanted)
    advance(0.6)
    phase("log p(y)")
    pooled = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), drawn.u)
    of.check(pooled)
    found = of.marginal(key_marginal, pooled, diagnostics.marginal)
    advance(0.9)
    phase("figures of the chains")
    rows = table([drawn.record()])
    report = FitReport(
        parameters={path: listed(value) for path, value in fitted.parameters().items()},
        log_marginal=shown_marginal(found),
        posterior=[_site(row, drawn) for row in rows],
        centering={name: float(jnp.mean(lam)) for name, lam in fitted.centering.loc.items()},
        seed=seed,
        findings=findings(rows),
    )
    advance(1.0)
    return report


def listed(value: np.ndarray | np.floating) -> Any:
    """An array as JSON data: its numbers, or the moments of many."""
    if value.size <= LISTED:
        return value.tolist()
    return {"shape": list(value.shape), "mean": float(value.mean()), "sd": float(value.std())}


def shown_marginal(found: Marginal) -> dict[str, Any]:
    """An estimate of log p(y) as JSON data, with an error where its draws can tell one, else with a doubt.

    Args:
        found: the estimate; with a leading dimension of rows, the mean over them is given, and its error.
    """
    value, log_weights = np.asarray(found.value, np.float64), np.asarray(found.log_weights, np.float64)
    if value.ndim == 0:
        effective, error, rows = np.asarray(found.effective)[None], float(found.error), {}
    else:
        effective, rows = np.asarray(jax.vmap(lambda one: one.effective)(found)), {"rows": value.size}
        error = float(value.std(ddof=1) / value.size**0.5) if value.size > 1 else math.nan
    doubt = _doubt(effective, np.atleast_2d(log_weights))
    known = error if not doubt and math.isfinite(error) else None
    return {"value": float(value.mean()), "error": known, **rows, "effective": float(np.median(effective)), **doubt}


def _doubt(effective: Float[np.ndarray, " rows"], log_weights: Float[np.ndarray, "rows draws"]) -> dict[str, str]:
    """Why an estimate has no error that can be known, in words, as `doubt`; nothing where it has one."""
    few, (rows, draws) = ~(effective >= FEWEST_EFFECTIVE), log_weights.shape  # NaN too
    if few.any():
        least = f"{np.nan_to_num(effective.min()):,.1f} of {draws:,} draws count, fewer than {FEWEST_EFFECTIVE:.0f}"
        where = f" in {few.sum()} of {rows} rows" if rows > 1 else ""
        return {"doubt": f"{least}{where}: too low by an unknown amount, as a rule"}
    k_hat = 0.0 if rows > 1 or np.isfinite(log_weights).sum() < FEWEST else pareto_smoothed(log_weights[0])[1]
    if k_hat > RELIABLE:
        return {"doubt": f"Pareto k = {k_hat:.2f} > {RELIABLE}: its weights are too unequal for an error to be told"}
    return {}


def _site(row: Row, drawn: Drawn) -> dict[str, Any]:
    """A row of the table without what a posterior has not, with moments."""
    figures = {name: value for name, value in dataclasses.asdict(row).items() if name != "sigma"}
    draws = np.asarray(drawn.values[row.site])
    return {**figures, "mean": listed(draws.mean(axis=(0, 1))), "sd": listed(draws.std(axis=(0, 1)))}
