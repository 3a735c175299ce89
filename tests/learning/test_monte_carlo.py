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
from pplemd.learning import Adam, Choosing, FitRecipe, FitStep, Newton
from pplemd.learning.newton import Memory
from pplemd.parameterization import Fisher, Interleaved, Placement, Policy

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


class Regression(Program):
    """y ~ N(theta x, 1), theta ~ N(mu, 1); y and x are fields of NumPy."""

    mu: jax.Array
    x: np.ndarray
    y: np.ndarray

    def __call__(self):
        theta = latent("theta", dist.Normal(self.mu, 1.0))
        observe("y", dist.Normal(theta * self.x, 1.0), self.y)


@pytest.mark.parametrize("optimiser", [Newton(), Adam(0.1)], ids=["newton", "adam"])
def test_numpy_s_arrays_in_a_program_are_data_and_are_not_trained(optimiser):
    x = np.linspace(-1, 1, 70, dtype=np.float32)  # with y more numbers than Newton's steps are for
    program = Regression(jnp.zeros(()), x, 3 * x)
    recipe = FitRecipe(3, chains=4, chain=Chain(HMC(0.3, 3), 1, NONE), choosing=None, optimiser=optimiser)
    state, metrics = fitted(program, recipe)
    assert [name for name in metrics if name.startswith("parameter_")] == ["parameter_mu"]
    for one in (state.average, state.learner.module):
        np.testing.assert_array_equal(one.x, x)
        np.testing.assert_array_equal(one.y, 3 * x)
        assert abs(one.mu) > 0.01
    newton = any(isinstance(leaf, Memory) for leaf in jax.tree.leaves(state.learner.memory, is_leaf=_is_memory))
    assert newton == isinstance(optimiser, Newton)


def _is_memory(leaf):
    return isinstance(leaf, Memory)


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


class Levels(Program):
    """theta_j ~ N(mu, exp(log_tau)), twice; data tell much of the sharp ones, little of the vague ones."""

    mu: jax.Array
    log_tau: jax.Array

    def __call__(self):
        for name, error in (("sharp", 0.05), ("vague", 20.0)):
            mu = latent(f"mean_{name}", dist.Normal(self.mu, 3.0))
            theta = latent(name, dist.Normal(mu, jnp.exp(self.log_tau)).expand([10]))
            observe(f"y_{name}", dist.Normal(theta, error), jnp.asarray(Y[:10]))


def test_coordinates_are_chosen_from_the_chains_and_nothing_is_compiled_again():
    program = Levels(jnp.zeros(()), jnp.zeros(()))
    chosen = Choosing(50, 30, policy=Policy(Fisher(steps=20)))
    recipe = FitRecipe(150, chain=Chain(HMC(None, 3), 2, NONE), choosing=chosen)
    step = FitStep(trace_observed(program), recipe)
    run = eqx.filter_jit(eqx.debug.assert_max_traces(step.__call__, max_traces=1))
    state, found, moves = step.init(program), [], []
    for number in range(150):  # the last 50 for step sizes to follow
        state, metrics = run(state, jax.random.fold_in(jax.random.key(5), number))
        if number in (49, 99):
            before = theta_of(step, state)
            state, figures = step.choose(jax.random.key(number), state)
            moves.append(np.abs(theta_of(step, state) - before).max())
            found.append(figures)
    for figures in found:
        assert figures["lambda_sharp"] == pytest.approx(1.0, abs=0.15)
        assert figures["lambda_vague"] == pytest.approx(0.0, abs=0.15)
        assert figures["cost_chosen"] < 0.5 * min(figures["cost_noncentered"], figures["cost_centered"])
        assert figures["kappa_sharp"] > 0.9
        assert figures["kappa_vague"] < 0.2
    assert 0.2 < float(metrics["acceptance"]) < 0.99
    assert max(moves) > 0  # the chains went on while they were looked at


def theta_of(step, state):
    """The sharp thetas where the chains are, whatever their coordinates."""
    program = state.learner.module

    def one(v):
        return step.problem.latents(program, step.problem.place(program, v, state.centering)[0])["sharp"]

    return np.asarray(jax.vmap(one)(state.positions))


def test_chains_stay_where_they_are_when_their_coordinates_change():
    program = Levels(jnp.asarray(0.3), jnp.asarray(-0.5))
    step = FitStep(trace_observed(program), FitRecipe(100, choosing=Choosing(50, 4)))
    state, pilot = step.pilot(jax.random.key(0), step.init(program))
    half = step.problem.centering(0.7)
    moved = step.moved(state, pilot, half)
    np.testing.assert_allclose(theta_of(step, moved), theta_of(step, state), rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(moved.positions["sharp"] - state.positions["sharp"])).max() > 0.1
    back = step.moved(moved, pilot, state.centering)
    np.testing.assert_allclose(back.positions["sharp"], state.positions["sharp"], rtol=1e-4, atol=1e-5)


def test_rows_are_groups_of_their_own():
    """z_i | y_i differ in mean from row to row, which tells nothing of coordinates; within each, kappa is 0.8."""
    program = Rows(jnp.asarray(1.2), jnp.asarray(0.0))
    chosen = Choosing(50, 40, rows=50, policy=Policy(Fisher(steps=20)))
    recipe = FitRecipe(100, rows=ROWS, chain=Chain(HMC(0.7, 3), 2, NONE), choosing=chosen)
    step = FitStep(trace_observed(program, rows=1), recipe)
    state = step.init(program)
    state, pilot = step.pilot(jax.random.key(1), state)
    assert (pilot.groups, pilot.rows.shape, pilot.u["z"].shape) == (50, (2000,), (2000, 1))
    v, score = pilot.along(Placement(step.problem, program), state.centering)
    parts = np.asarray(v).reshape(50, 40)
    np.testing.assert_allclose(parts.mean(axis=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(parts[:, 10:].var(), 1 / 5, rtol=0.2)  # 1 - kappa
    np.testing.assert_allclose(np.mean(v * score), -1.0, atol=0.15)
    state, found = step.choose(jax.random.key(2), state)
    assert found["kappa_z"] == pytest.approx(0.8, abs=0.1)
    assert state.positions["z"].shape == (ROWS, 1)


def test_impossible_recipes_are_refused():
    with pytest.raises(RecipeError, match="found every=0"):
        Choosing(every=0)
    with pytest.raises(RecipeError, match="whose chains alternate"):
        Choosing(policy=Policy(Interleaved()))
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


class Skewed(Program):
    """log of an exponential number, of which the data tell nothing: its variance is pi^2 / 6."""

    rate: jax.Array

    def __call__(self):
        x = latent("x", dist.Gamma(1.0 + 0.0 * self.rate, 1.0))
        observe("y", dist.Normal(0.0 * x, 1.0), jnp.asarray(0.0))


def test_chains_that_adapt_to_themselves_keep_their_law():
    """Step sizes and variances of the chains' own past err by 5 % of the variance unless they slow down.

    Source: Andrieu and Thoms 2008, section 4 (diminishing adaptation).
    """
    program = Skewed(jnp.zeros(()))
    recipe = FitRecipe(2000, chains=8, chain=Chain(HMC(), 2, NONE), centering=1.0, choosing=None, optimiser=Adam(1e-12))
    step = FitStep(trace_observed(program), recipe)
    base = step.init(program)

    def of_one(key):
        key_start, key_run = jax.random.split(key)
        starts = jax.vmap(lambda k: step.problem.displace(program, step.problem.draw(k, program), base.centering))
        state = eqx.tree_at(lambda s: s.positions, base, starts(jax.random.split(key_start, 8)))
        arrays, rest = eqx.partition(state, eqx.is_array)

        def one(arrays, key):
            state, _ = step(eqx.combine(arrays, rest), key)
            return eqx.filter(state, eqx.is_array), state.positions["x"]

        return jax.lax.scan(one, arrays, jax.random.split(key_run, 2000))[1][1000:]

    x = np.asarray(jax.jit(jax.vmap(of_one))(jax.random.split(jax.random.key(0), 128)), np.float64)
    squares = np.mean((x + np.euler_gamma) ** 2, axis=(1, 2))
    assert abs(squares.mean() - np.pi**2 / 6) < 4 * squares.std(ddof=1) / np.sqrt(128)
    assert squares.std(ddof=1) / np.sqrt(128) < 0.01
