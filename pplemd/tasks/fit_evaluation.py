"""How good a fit is: its parameters, an estimate of log p(y), and long chains of its latents' posterior, judged."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from pplemd.algorithms import Convergence
from pplemd.diagnosis import FEWEST, RELIABLE, Finding, Row, findings, pareto_smoothed, table
from pplemd.inference import FEWEST_EFFECTIVE, Marginal
from pplemd.keys import named
from pplemd.tasks.base import AbstractReport
from pplemd.tasks.diagnostics import Diagnostics
from pplemd.tasks.latent_posteriors import Drawn, posteriors
from pplemd.tasks.results import Fitted

LISTED = 20  # numbers of an array that are told one by one; of a larger one its size, mean and s.d.


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
        advance: told the share that is done, 0 to 1.
        phase: told what is done, before it is.

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
        found: the estimate; with a leading dimension of rows, the mean over them is told, and its error.
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
    """Why an estimate has no error that can be told, in words, as `doubt`; nothing where it has one."""
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
