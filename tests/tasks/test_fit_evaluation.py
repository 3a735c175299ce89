"""What a fit tells of its estimate of log p(y): an error only where the draws can tell one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.inference import Marginal
from pplemd.tasks.fit_results import shown_marginal

RNG = np.random.default_rng(0)
WEIGHTS = {  # log weights, and the doubt that is told
    "alike": (RNG.normal(0.0, 0.5, 2000), None),
    "one draw": (np.r_[0.0, np.full(1999, -36_000.0)], "1.0 of 2,000 draws count, fewer than 10"),
    "annealed, two draws": (RNG.normal(0.0, 4.0, 64), "of 64 draws count, fewer than 10"),
    "heavy tail": (RNG.standard_exponential(20_000) / 1.05, "Pareto k"),
    "nowhere": (np.full(50, -np.inf), "0.0 of 50 draws count"),
}


def of(log_weights):
    log_weights = jnp.asarray(log_weights, jnp.float32)
    return Marginal(jax.nn.logsumexp(log_weights) - jnp.log(log_weights.size), log_weights)


@pytest.mark.parametrize("name", WEIGHTS)
def test_an_error_is_told_where_there_is_one(name):
    log_weights, doubt = WEIGHTS[name]
    told = shown_marginal(of(log_weights))
    assert (told["error"] is None) == (doubt is not None), told
    assert doubt is None or doubt in told["doubt"], told
    assert doubt is not None or 0 < told["error"] < 0.1


@pytest.mark.slow
def test_rows_with_few_draws_are_counted():
    rows = jnp.asarray(RNG.normal(0.0, 0.5, (5, 64)), jnp.float32)
    told = shown_marginal(jax.vmap(of)(rows))
    assert told["rows"] == 5
    assert told["error"] == pytest.approx(np.std(np.asarray(jax.vmap(of)(rows).value), ddof=1) / np.sqrt(5), rel=1e-5)
    told = shown_marginal(jax.vmap(of)(rows.at[3].multiply(20.0)))
    assert told["error"] is None
    assert "draws count, fewer than 10 in 1 of 5 rows" in told["doubt"]
    assert shown_marginal(jax.vmap(of)(rows[:1]))["error"] is None
