"""How good a fit is: its parameters, an estimate of log p(y), and long chains of its latents' posterior, judged."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pplemd.diagnosis import Row, table
from pplemd.fitting import Fitted
from pplemd.inference import Marginal
from pplemd.learning import Judging
from pplemd.posteriors import Drawn, Posteriors, posteriors

TOLD = 20  # numbers of an array that are told one by one; of a larger one its size, mean and s.d.


@dataclasses.dataclass(frozen=True)
class FitReport:
    """What a fit ends with.

    Attributes:
        parameters: what was trained, by its path in the program: values, or of large arrays their moments.
        log_marginal: the estimate of log p(y), its standard error and the effective number of its draws; where rows
            are looked at, their mean, with the standard error of a mean over rows.
        posterior: ArviZ's figures of the latents' chains, a row a site, with mean and s.d.
        centering: by site, the mean lambda that the chains moved in.
        seed: seed of the chains and of the estimate.
    """

    parameters: dict[str, Any]
    log_marginal: dict[str, Any]
    posterior: list[dict[str, Any]]
    centering: dict[str, float]
    seed: int


def judge_fit(
    fitted: Fitted, judging: Judging, seed: int = 0, advance: Callable[[float], None] = lambda share: None
) -> FitReport:
    """Run long chains of the posterior at the fitted program, and estimate its marginal likelihood.

    Args:
        fitted: the program.
        judging: how long.
        seed: seed of chains and estimate; training never uses its key.
        advance: told the share that is done, 0 to 1.
    """
    key_chains, key_marginal = jax.random.split(jax.random.fold_in(jax.random.key(seed), 0x5EED))
    of = posteriors(fitted, judging.rows)
    wanted = (judging.chains, judging.warm_up, judging.draws)
    drawn = of.chains(key_chains, fitted.centering, judging.kernel, wanted)
    advance(0.6)
    pooled = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), drawn.u)
    found = of.marginal(key_marginal, pooled, judging.marginal)
    advance(0.9)
    report = FitReport(
        parameters={path: told(value) for path, value in fitted.parameters().items()},
        log_marginal=_marginal(of, found),
        posterior=[_site(row, drawn) for row in table([drawn.record()])],
        centering={name: float(jnp.mean(lam)) for name, lam in fitted.centering.loc.items()},
        seed=seed,
    )
    advance(1.0)
    return report


def told(value: np.ndarray | np.floating) -> Any:
    """An array as JSON data: its numbers, or the moments of many."""
    if value.size <= TOLD:
        return value.tolist()
    return {"shape": list(value.shape), "mean": float(value.mean()), "sd": float(value.std())}


def _marginal(of: Posteriors, found: Marginal) -> dict[str, Any]:
    if of.rows is None:
        return {"value": float(found.value), "error": float(found.error), "effective": float(found.effective)}
    value = np.asarray(found.value)
    effective = jax.vmap(lambda one: one.effective)(found)
    error = float(value.std(ddof=1) / np.sqrt(value.size)) if value.size > 1 else float("nan")
    rows = {"rows": int(value.size), "effective": float(jnp.median(effective))}
    return {"value": float(value.mean()), "error": error, **rows}


def _site(row: Row, drawn: Drawn) -> dict[str, Any]:
    """A row of the table without what a posterior has not, with moments."""
    figures = {name: value for name, value in dataclasses.asdict(row).items() if name != "sigma"}
    draws = np.asarray(drawn.values[row.site])
    return {**figures, "mean": told(draws.mean(axis=(0, 1))), "sd": told(draws.std(axis=(0, 1)))}
