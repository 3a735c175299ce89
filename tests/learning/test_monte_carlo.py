"""Monte Carlo EM on programs whose maximum likelihood is known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from pplemd.dsl import Program, latent, observe, plate, trace_observed
from pplemd.errors import RecipeError
from pplemd.inference import ALL, HMC, NONE, Chain
from pplemd.learning import Adam, FitRecipe, FitStep

ROWS = 300
Y = 1.2 + np.sqrt(0.9**2 + 0.5**2) * np.random.default_rng(0).standard_normal(ROWS).astype(np.float32)


class Rows(Program):
    """y_i ~ N(z_i, 0.5), z_i ~ N(mu, tau): y_i ~ N(mu, tau^2 + 0.25), greatest at the data's mean and variance."""

    mu: jax.Array
    log_tau: jax.Array

    def __call__(self):
        with plate("rows", ROWS) as rows:
            z = latent("z", dist.Normal(self.mu, jnp.exp(self.log_tau)))
            observe("y", dist.Normal(z, 0.5), jnp.asarray(Y)[rows])


class Shared(Program):
    """y_i ~ N(theta, exp(log_noise)), theta ~ N(mu, 1) shared by three rows: mu goes to their mean."""

    mu: jax.Array

    def __call__(self):
        theta = latent("theta", dist.Normal(self.mu, 1.0))
        observe("y", dist.Normal(theta, jnp.ones(3)), jnp.asarray([0.5, 2.0, 2.9]))


def fitted(program, recipe):
    """The averaged program after the recipe, and the last state."""
    problem = trace_observed(program, rows=None if recipe.rows is None else 1)
    step = FitStep(problem, recipe)
    run = eqx.filter_jit(eqx.debug.assert_max_traces(step.__call__, max_traces=1))
    state = step.init(program)
    for number in range(recipe.steps):
        state, metrics = run(state, jax.random.fold_in(jax.random.key(5), number))
    return state, metrics


START = Rows(jnp.zeros(()), jnp.asarray(-1.0))


@pytest.mark.parametrize("centering", [0.0, 0.5, 1.0])
def test_the_maximum_of_the_likelihood_is_found_in_every_form(centering):
    recipe = FitRecipe(
        500, rows=100, chain=Chain(HMC(None, 3), 1, NONE), centering=centering, optimiser=Adam(0.05, final=0.02)
    )
    state, metrics = fitted(START, recipe)
    variance = float(jnp.exp(2 * state.average.log_tau)) + 0.25
    np.testing.assert_allclose(state.average.mu, Y.mean(), atol=0.05)
    np.testing.assert_allclose(variance, Y.var(), rtol=0.12)
    assert 0.4 < float(metrics["acceptance"]) < 0.95
    assert int(state.learner.skipped) == 0


def test_chains_rest_in_the_posterior_of_their_row():
    """z_i | y_i ~ N(mu + k (y_i - mu), (1 - k) tau^2), k = tau^2 / (tau^2 + 0.25)."""
    program = Rows(jnp.asarray(1.0), jnp.asarray(0.0))
    recipe = FitRecipe(60, rows=ROWS, chain=Chain(HMC(None, 3), 4, NONE), optimiser=Adam(1e-9))
    state, _ = fitted(program, recipe)
    z = 1.0 + np.asarray(state.positions["z"])[:, 0]
    k = 1 / 1.25
    left = (z - (1.0 + k * (Y - 1.0))) / np.sqrt(1 - k)
    assert abs(left.mean()) < 4 / np.sqrt(ROWS)
    assert abs((left**2).mean() - 1) < 4 * np.sqrt(2 / ROWS)


@pytest.mark.parametrize("centering", [0.0, 1.0])
def test_what_all_rows_share_is_learned_from_all_of_them(centering):
    recipe = FitRecipe(
        400, chains=16, chain=Chain(HMC(None, 3), 1, NONE), centering=centering, optimiser=Adam(0.05, final=0.02)
    )
    state, _ = fitted(Shared(jnp.zeros(())), recipe)
    np.testing.assert_allclose(state.average.mu, np.mean([0.5, 2.0, 2.9]), atol=0.15)
    assert state.positions["theta"].shape == (16,)


class Unlike(Program):
    """Two latents of one law each, one of them known a hundred times better."""

    mu: jax.Array

    def __call__(self):
        wide, sharp = latent("wide", dist.Normal(self.mu, 1.0)), latent("sharp", dist.Normal(self.mu, 1.0))
        observe("y", dist.Normal(jnp.stack([wide, sharp]), jnp.asarray([10.0, 0.01])), jnp.zeros(2))


def test_the_inverse_mass_is_that_of_the_draws():
    recipe = FitRecipe(300, chains=32, chain=Chain(HMC(None, 3), 1, NONE), optimiser=Adam(1e-9))
    state, metrics = fitted(Unlike(jnp.zeros(())), recipe)
    np.testing.assert_allclose(state.variances["wide"], 1 / (1 + 1 / 100), rtol=0.6)
    np.testing.assert_allclose(state.variances["sharp"], 1e-4, rtol=0.6)
    assert float(jnp.exp(state.step_sizes.log_size[0])) > 0.3  # in units of each coordinate's own deviation


def test_rows_that_were_not_looked_at_stay():
    step = FitStep(trace_observed(START, rows=1), FitRecipe(rows=10))
    state = step.init(START)
    assert state.positions["z"].shape == (ROWS, 1)
    after, _ = eqx.filter_jit(step)(state, jax.random.key(0))
    moved = np.any(np.asarray(after.positions["z"] != state.positions["z"]), axis=1)
    assert 0 < moved.sum() <= 10


def test_impossible_recipes_are_refused():
    with pytest.raises(RecipeError, match="nothing cancelled"):
        FitRecipe(chain=Chain(HMC(), 2, ALL))
    with pytest.raises(RecipeError, match="0 <= centering <= 1; found centering=1.5"):
        FitRecipe(centering=1.5)
    with pytest.raises(RecipeError, match="steps >= 1"):
        FitRecipe(steps=0)
    with pytest.raises(RecipeError, match="rows >= 1, or None"):
        FitRecipe(rows=0)
    with pytest.raises(RecipeError, match="the program's one plate; found none"):
        FitStep(trace_observed(Shared(jnp.zeros(()))), FitRecipe(rows=2)).init(Shared(jnp.zeros(())))
