"""Monte Carlo EM on programs whose maximum likelihood is known."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from training_steps import fitting

from pplemd.algorithms import MonteCarloEM, Reparameterization
from pplemd.algorithms.monte_carlo_em import Tuning
from pplemd.dsl import Program, latent, observe, plate, trace_observed
from pplemd.errors import RecipeError
from pplemd.inference import HMC, Cancellation, Chain
from pplemd.learning import Adam, Newton, Training
from pplemd.learning.optimisers import Memory
from pplemd.parameterization import Fisher, Placement, Policy
from pplemd.tasks.fit import Fit

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


def begun(program, minibatches=False, **numbers):
    """A step, and the state before it."""
    step = fitting(trace_observed(program, rows=1 if minibatches else None), minibatches=minibatches, **numbers)
    return step, step.init({"program": program})


def fitted(program, **numbers):
    """The last state, and the metrics of its step."""
    step, state = begun(program, **numbers)
    run = eqx.filter_jit(eqx.debug.assert_max_traces(step.__call__, max_traces=1))
    for number in range(step.context.training.steps):
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


@pytest.mark.slow
@pytest.mark.parametrize("optimiser", [Newton(), Adam(0.1)], ids=["newton", "adam"])
def test_numpy_s_arrays_in_a_program_are_data_and_are_not_trained(optimiser):
    x = np.linspace(-1, 1, 70, dtype=np.float32)  # with y more numbers than Newton's steps are for
    program = Regression(jnp.zeros(()), x, 3 * x)
    numbers = {"chains": 4, "chain": Chain(HMC(0.3, 3), 1, Cancellation.NONE), "reparameterization": None}
    state, metrics = fitted(program, steps=3, optimiser=optimiser, **numbers)
    assert [name for name in metrics if name.startswith("parameter_")] == ["parameter_mu"]
    for one in (state.averages["program"], state.networks["program"]):
        np.testing.assert_array_equal(one.x, x)
        np.testing.assert_array_equal(one.y, 3 * x)
        assert abs(one.mu) > 0.01
    newton = any(
        isinstance(leaf, Memory) for leaf in jax.tree.leaves(state.learners["program"].memory, is_leaf=_is_memory)
    )
    assert newton == isinstance(optimiser, Newton)


def _is_memory(leaf):
    return isinstance(leaf, Memory)


START = Rows(jnp.zeros(()), jnp.asarray(-1.0))


@pytest.mark.slow_for("0.0")
@pytest.mark.parametrize("centering", [0.0, 0.5, 1.0])
def test_the_maximum_of_the_likelihood_is_found_in_every_form(centering):
    numbers = {
        "chain": Chain(HMC(None, 3), 1, Cancellation.NONE),
        "centering": centering,
        "optimiser": Adam(0.05, final=0.02),
    }
    state, metrics = fitted(START, steps=500, batch=100, minibatches=True, **numbers)
    average = state.averages["program"]
    variance = float(jnp.exp(2 * average.log_tau)) + 0.25
    np.testing.assert_allclose(average.mu, Y.mean(), atol=0.05)
    np.testing.assert_allclose(variance, Y.var(), rtol=0.12)
    assert 0.4 < float(metrics["acceptance"]) < 0.95
    assert int(state.learners["program"].skipped) == 0


@pytest.mark.slow
def test_chains_rest_in_the_posterior_of_their_row():
    """z_i | y_i ~ N(mu + k (y_i - mu), (1 - k) tau^2), k = tau^2 / (tau^2 + 0.25)."""
    program = Rows(jnp.asarray(1.0), jnp.asarray(0.0))
    numbers = {"chain": Chain(HMC(None, 3), 4, Cancellation.NONE), "optimiser": Adam(1e-9)}
    state, _ = fitted(program, steps=60, batch=ROWS, minibatches=True, **numbers)
    z = 1.0 + np.asarray(state.memory["z"])[:, 0]
    k = 1 / 1.25
    left = (z - (1.0 + k * (Y - 1.0))) / np.sqrt(1 - k)
    assert abs(left.mean()) < 4 / np.sqrt(ROWS)
    assert abs((left**2).mean() - 1) < 4 * np.sqrt(2 / ROWS)


@pytest.mark.slow_for("0.0")
@pytest.mark.parametrize("centering", [0.0, 1.0])
def test_what_all_rows_share_is_learned_from_all_of_them(centering):
    numbers = {
        "chain": Chain(HMC(None, 3), 1, Cancellation.NONE),
        "centering": centering,
        "optimiser": Adam(0.05, final=0.02),
    }
    state, _ = fitted(Shared(jnp.zeros(())), steps=400, chains=16, **numbers)
    np.testing.assert_allclose(state.averages["program"].mu, np.mean([0.5, 2.0, 2.9]), atol=0.15)
    assert state.memory["theta"].shape == (16,)


class Unlike(Program):
    """Two latents of one law each, one of them known a hundred times better."""

    mu: jax.Array

    def __call__(self):
        wide, sharp = latent("wide", dist.Normal(self.mu, 1.0)), latent("sharp", dist.Normal(self.mu, 1.0))
        observe("y", dist.Normal(jnp.stack([wide, sharp]), jnp.asarray([10.0, 0.01])), jnp.zeros(2))


@pytest.mark.slow
def test_the_inverse_mass_is_that_of_the_draws():
    numbers = {"chain": Chain(HMC(None, 3), 1, Cancellation.NONE), "optimiser": Adam(1e-9)}
    state, metrics = fitted(Unlike(jnp.zeros(())), steps=300, chains=32, **numbers)
    np.testing.assert_allclose(state.tuning.variances["wide"], 1 / (1 + 1 / 100), rtol=0.6)
    np.testing.assert_allclose(state.tuning.variances["sharp"], 1e-4, rtol=0.6)
    assert float(jnp.exp(state.tuning.step_sizes.log_size[0])) > 0.3  # in units of each coordinate's own deviation


@pytest.mark.slow
def test_rows_that_were_not_looked_at_stay():
    step, state = begun(START, minibatches=True, batch=10)
    assert state.memory["z"].shape == (ROWS, 1)
    after, _ = eqx.filter_jit(step)(state, jax.random.key(0))
    moved = np.any(np.asarray(after.memory["z"] != state.memory["z"]), axis=1)
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


@pytest.mark.slow
def test_coordinates_are_chosen_from_the_chains_and_nothing_is_compiled_again():
    program = Levels(jnp.zeros(()), jnp.zeros(()))
    chosen = Reparameterization(50, 30, policy=Policy(Fisher(steps=20)))
    step, state = begun(program, steps=150, chain=Chain(HMC(None, 3), 2, Cancellation.NONE), reparameterization=chosen)
    run = eqx.filter_jit(eqx.debug.assert_max_traces(step.__call__, max_traces=1))
    found, moves = [], []
    for number in range(150):  # the last 50 for step sizes to follow
        state, metrics = run(state, jax.random.fold_in(jax.random.key(5), number))
        if number in (49, 99):
            before = theta_of(step, state)
            state, figures = step.algorithm.adjust(step.context, jax.random.key(number), state)
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
    program, problem = state.networks["program"], step.context.problem

    def one(v):
        return problem.latents(program, problem.to_base(program, v, state.tuning.centering)[0])["sharp"]

    return np.asarray(jax.vmap(one)(state.memory))


@pytest.mark.slow
def test_chains_stay_where_they_are_when_their_coordinates_change():
    program = Levels(jnp.asarray(0.3), jnp.asarray(-0.5))
    step, state = begun(program, steps=100, reparameterization=Reparameterization(50, 4))
    algorithm, context = step.algorithm, step.context
    state, pilot = algorithm.pilot(context, jax.random.key(0), state)
    half = context.problem.centering(0.7)

    def replaced(state, lam):
        positions, variances = algorithm.replaced(context, state, pilot, lam)
        return dataclasses.replace(state, memory=positions, tuning=Tuning(lam, state.tuning.step_sizes, variances))

    moved = replaced(state, half)
    np.testing.assert_allclose(theta_of(step, moved), theta_of(step, state), rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(moved.memory["sharp"] - state.memory["sharp"])).max() > 0.1
    back = replaced(moved, state.tuning.centering)
    np.testing.assert_allclose(back.memory["sharp"], state.memory["sharp"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_rows_are_groups_of_their_own():
    """z_i | y_i differ in mean from row to row, which tells nothing of coordinates; within each, kappa is 0.8."""
    program = Rows(jnp.asarray(1.2), jnp.asarray(0.0))
    numbers = {
        "chain": Chain(HMC(0.7, 3), 2, Cancellation.NONE),
        "reparameterization": Reparameterization(50, 40, rows=50, policy=Policy(Fisher(steps=20))),
    }
    step, state = begun(program, minibatches=True, steps=100, batch=ROWS, **numbers)
    state, pilot = step.algorithm.pilot(step.context, jax.random.key(1), state)
    assert (pilot.groups, pilot.rows.shape, pilot.u["z"].shape) == (50, (2000,), (2000, 1))
    v, score = pilot.along(Placement(step.context.problem, program), state.tuning.centering)
    parts = np.asarray(v).reshape(50, 40)
    np.testing.assert_allclose(parts.mean(axis=1), 0.0, atol=1e-5)
    np.testing.assert_allclose(parts[:, 10:].var(), 1 / 5, rtol=0.2)  # 1 - kappa
    np.testing.assert_allclose(np.mean(v * score), -1.0, atol=0.15)
    state, found = step.algorithm.adjust(step.context, jax.random.key(2), state)
    assert found["kappa_z"] == pytest.approx(0.8, abs=0.1)
    assert state.memory["z"].shape == (ROWS, 1)


def test_impossible_numbers_are_refused():
    with pytest.raises(RecipeError, match="found every=0"):
        Reparameterization(every=0)
    with pytest.raises(RecipeError, match="nothing cancelled"):
        MonteCarloEM(chain=Chain(HMC(), 2, Cancellation.ALL))
    with pytest.raises(RecipeError, match="0 <= centering <= 1; found centering=1.5"):
        MonteCarloEM(centering=1.5)
    with pytest.raises(RecipeError, match="steps >= 1"):
        Training(steps=0)
    with pytest.raises(RecipeError, match="chains >= 1"):
        MonteCarloEM(chains=0)
    with pytest.raises(RecipeError, match="the program's one plate; found no data and the plates none"):
        Fit(lambda key: Shared(jnp.zeros(())), algorithm=MonteCarloEM(minibatches=True)).plan()


class Skewed(Program):
    """log of an exponential number, of which the data tell nothing: its variance is pi^2 / 6."""

    rate: jax.Array

    def __call__(self):
        x = latent("x", dist.Gamma(1.0 + 0.0 * self.rate, 1.0))
        observe("y", dist.Normal(0.0 * x, 1.0), jnp.asarray(0.0))


@pytest.mark.slow
def test_chains_that_adapt_to_themselves_keep_their_law():
    """Step sizes and variances of the chains' own past err by 5 % of the variance unless they slow down.

    Source: Andrieu and Thoms 2008, section 4 (diminishing adaptation).
    """
    program = Skewed(jnp.zeros(()))
    numbers = {"chain": Chain(HMC(), 2, Cancellation.NONE), "centering": 1.0, "reparameterization": None}
    step, base = begun(program, steps=2000, chains=8, optimiser=Adam(1e-12), **numbers)
    problem = step.context.problem

    def of_one(key):
        key_start, key_run = jax.random.split(key)
        starts = jax.vmap(lambda k: problem.from_base(program, problem.draw(k, program), base.tuning.centering))
        state = eqx.tree_at(lambda s: s.memory, base, starts(jax.random.split(key_start, 8)))
        arrays, rest = eqx.partition(state, eqx.is_array)

        def one(arrays, key):
            state, _ = step(eqx.combine(arrays, rest), key)
            return eqx.filter(state, eqx.is_array), state.memory["x"]

        return jax.lax.scan(one, arrays, jax.random.split(key_run, 2000))[1][1000:]

    x = np.asarray(jax.jit(jax.vmap(of_one))(jax.random.split(jax.random.key(0), 128)), np.float64)
    squares = np.mean((x + np.euler_gamma) ** 2, axis=(1, 2))
    assert abs(squares.mean() - np.pi**2 / 6) < 4 * squares.std(ddof=1) / np.sqrt(128)
    assert squares.std(ddof=1) / np.sqrt(128) < 0.01
