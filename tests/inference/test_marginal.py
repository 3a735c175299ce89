"""Marginal likelihoods of linear-normal programs, where they are known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from scipy.stats import multivariate_normal

from pplemd.dsl import Program, latent, observe, trace_observed
from pplemd.errors import ProgramError
from pplemd.inference import (
    HMC,
    Langevin,
    Proposal,
    ScorePotential,
    TiltedTarget,
    annealed_marginal,
    importance_marginal,
    marginal,
    normal_proposal,
    standard_normal,
    tempered,
)

KEY = jax.random.key(0)


class Factors(Program):
    """y ~ N(W z + b, noise^2), z ~ N(0, I): y ~ N(b, W W^T + noise^2)."""

    w: jax.Array
    b: jax.Array
    y: np.ndarray = eqx.field(converter=np.asarray)
    noise: float = 1.0

    def __call__(self):
        z = latent("z", dist.Normal(jnp.zeros(self.w.shape[1]), 1.0))
        observe("y", dist.Normal(self.w @ z + self.b, self.noise), jnp.asarray(self.y))


def factors(size, noise=1.0):
    """One with as many latents as data, and its exact log p(y) and posterior."""
    rng = np.random.default_rng(size)
    w = (rng.standard_normal((size, size)) * 0.6 / np.sqrt(size)).astype(np.float32)
    y = (w @ rng.standard_normal(size) + noise * rng.standard_normal(size)).astype(np.float32)
    program = Factors(jnp.asarray(w), jnp.zeros(size), y, noise)
    exact = multivariate_normal(np.zeros(size), w @ w.T + noise**2 * np.eye(size)).logpdf(y)
    covariance = np.linalg.inv(np.eye(size) + w.T @ w / noise**2)
    return program, exact, (covariance @ w.T @ y / noise**2, covariance)


def close(found, exact):
    """Within 4 standard errors, which are small enough to tell."""
    error = float(found.error)
    assert error < 0.3
    assert abs(float(found.value) - exact) < 4 * error + 1e-4
    return error


@pytest.mark.parametrize("size", [1, 10, 50])
def test_the_simple_estimator_finds_the_known_value(size):
    program, exact, _ = factors(size)
    problem = trace_observed(program)
    close(jax.jit(lambda k: marginal(k, problem, program, 200_000))(KEY), exact)


@pytest.mark.slow
@pytest.mark.slow_for("1")
@pytest.mark.parametrize("size", [1, 10, 50])
def test_importance_sampling_needs_fewer_draws(size):
    program, exact, (mean, covariance) = factors(size)
    problem = trace_observed(program)
    drawn = np.random.default_rng(1).multivariate_normal(mean, covariance, 4000).astype(np.float32)
    proposal = normal_proposal({"z": jnp.asarray(drawn)}, 1.05)
    found = importance_marginal(KEY, problem, program, proposal, 2000)
    close(found, exact)
    simple = marginal(KEY, problem, program, 2000)
    assert float(found.effective) > (2 if size > 1 else 1) * float(simple.effective)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 10, 50])
def test_annealing_finds_the_known_value(size):
    program, exact, _ = factors(size)
    problem = trace_observed(program)
    found = eqx.filter_jit(annealed_marginal)(KEY, problem, program, 300, 60)
    close(found, exact)
    assert float(found.effective) > float(marginal(KEY, problem, program, 300).effective)


@pytest.mark.slow
def test_annealing_gets_into_a_tight_posterior():
    """Noise of a fiftieth: steps of one length for all levels are refused in the cold ones."""
    program, exact, _ = factors(10, noise=0.02)
    problem = trace_observed(program)
    found = eqx.filter_jit(annealed_marginal)(KEY, problem, program, 100, 1000)
    fixed = eqx.filter_jit(annealed_marginal)(KEY, problem, program, 100, 1000, HMC(0.2, 5))
    close(found, exact)
    assert float(found.effective) > 10 * float(fixed.effective)


def test_a_kernel_that_is_not_adjusted_cannot_anneal():
    program, _, _ = factors(3)
    with pytest.raises(ProgramError, match="accepts everything"):
        annealed_marginal(KEY, trace_observed(program), program, 4, 2, Langevin(None))


@pytest.mark.slow
def test_a_proposal_of_the_posterior_itself_has_no_variance():
    program, exact, (mean, covariance) = factors(3)
    problem = trace_observed(program)
    proposal = normal_proposal({"z": jnp.asarray(np.zeros((10, 3), np.float32))})
    scale = np.linalg.cholesky(covariance)
    exactly = eqx.tree_at(
        lambda p: (p.mean, p.scale), proposal, tuple(jnp.asarray(a, jnp.float32) for a in (mean, scale))
    )
    found = importance_marginal(KEY, problem, program, exactly, 50)
    np.testing.assert_allclose(found.log_weights, exact, atol=1e-4)
    np.testing.assert_allclose(found.effective, 50, rtol=1e-3)


@pytest.mark.slow_for("0.0003")
@pytest.mark.parametrize("noise", [3e-4, 3e-5])
def test_draws_of_a_posterior_far_narrower_than_the_prior_nearly_all_count(noise):
    program, exact, (mean, covariance) = factors(4, noise)
    problem = trace_observed(program)
    drawn = np.random.default_rng(1).multivariate_normal(mean, covariance, 4000).astype(np.float32)
    found = importance_marginal(KEY, problem, program, normal_proposal({"z": jnp.asarray(drawn)}, 1.05), 2000)
    assert close(found, exact) < 0.02
    assert float(found.effective) > 1800


@pytest.mark.slow
def test_an_estimate_of_few_draws_has_no_error():
    """One draw in which all weight lies levels off at an error of 1, however far off it is."""
    program, exact, _ = factors(10, noise=0.02)
    found = marginal(KEY, trace_observed(program), program, 500)
    assert float(found.value) < exact - 100
    assert float(found.effective) < 2
    assert np.isnan(found.error)


NARROW = {  # covariance of draws, in units of the prior's variance: each coordinate narrow, wide beside narrow, a ridge
    "narrow": np.eye(4) * 3e-4**2,
    "unlike": np.diag([1.0, 1e-2, 3e-4, 1e-5]) ** 2,
    "ridge": 1e-6 * (np.ones((4, 4)) + 1e-6 * np.eye(4)),
    "wide ridge": np.ones((4, 4)) + 1e-7 * np.eye(4),
}


@pytest.mark.parametrize("name", NARROW)
def test_a_proposal_is_as_wide_as_its_draws_however_narrow(name):
    """Of exact draws of a normal law, nearly every draw of the proposal counts."""
    covariance = NARROW[name]
    drawn = np.random.default_rng(3).standard_normal((4000, 4)) @ np.linalg.cholesky(covariance).T
    proposal = normal_proposal({"z": jnp.asarray(drawn, jnp.float32)}, 1.05)
    scale = np.asarray(proposal.scale, np.float64)
    noise = np.random.default_rng(4).standard_normal((2000, 4))
    inside = np.linalg.solve(np.linalg.cholesky(covariance), scale @ noise.T)
    log_weights = -0.5 * np.sum(inside**2, axis=0) + 0.5 * np.sum(noise**2, axis=1)
    weights = np.exp(log_weights - log_weights.max())
    assert weights.sum() ** 2 / (weights**2).sum() > 0.97 * 2000


def test_its_gradient_is_that_of_the_marginal():
    program, _, _ = factors(2)
    problem = trace_observed(program)
    gradient = eqx.filter_jit(
        jax.grad(lambda b, p: marginal(KEY, problem, eqx.tree_at(lambda q: q.b, p, b), 50_000).value)
    )
    precision = np.linalg.inv(np.asarray(program.w) @ np.asarray(program.w).T + np.eye(2))
    np.testing.assert_allclose(gradient(program.b, program), precision @ program.y, rtol=0.05, atol=0.01)


class Turned(Program):
    """y ~ N(b + w R z, 1), R a rotation: y ~ N(b, (w^2 + 1) I)."""

    w: jax.Array
    b: jax.Array
    rotation: jax.Array
    y: jax.Array

    def __call__(self):
        z = latent("z", dist.Normal(jnp.zeros(self.b.size), 1.0))
        turned = jax.lax.stop_gradient(self.rotation) @ z
        observe("y", dist.Normal(self.b + self.w * turned, 1.0), jax.lax.stop_gradient(self.y))


def turned(size, rows, w):
    """A program with w = .3 and b = 0, and rows of data of w and of some b."""
    rng = np.random.default_rng(size)
    y = rng.standard_normal(size) + np.sqrt(1 + w**2) * rng.standard_normal((rows, size))
    rotation = np.linalg.qr(rng.standard_normal((size, size)))[0]
    y, rotation = jnp.asarray(y, jnp.float32), jnp.asarray(rotation, jnp.float32)
    return Turned(jnp.asarray(0.3), jnp.zeros(size), rotation, y[0]), y


def learned(loss, arrays, steps, rate):
    """By Adam whose rate falls; the mean of the last quarter."""
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, steps, 0.1))

    def update(carry, key):
        arrays, memory = carry
        with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer count
            change, memory = optimiser.update(jax.grad(loss)(arrays, key), memory)
        arrays = optax.apply_updates(arrays, change)
        return (arrays, memory), arrays

    keys = jax.random.split(KEY, steps)
    _, path = jax.jit(lambda a: jax.lax.scan(update, (a, optimiser.init(a)), keys))(arrays)
    return jax.tree.map(lambda leaf: np.mean(np.asarray(leaf)[-steps // 4 :], axis=0), path)


@pytest.mark.slow_for("50")
@pytest.mark.parametrize("size", [1, 10, 50])
def test_learning_by_it_recovers_a_mean(size):
    """The sum of the rows' estimates is greatest where b is their mean, whatever the dimension.

    Latents of which each adds .3^2 to a variance of 1: in 50 dimensions an estimate needs some exp(50 .3^2) draws.
    """
    program, y = turned(size, 40, 0.3)
    problem = trace_observed(program)

    def loss(b, key):
        moved = eqx.tree_at(lambda p: p.b, program, b)
        keys = jax.random.split(key, len(y))
        each = jax.vmap(lambda k, row: marginal(k, problem.given({"y": row}), moved, 60).value)
        return -jnp.mean(each(keys, y))

    found = learned(loss, program.b, 120, 0.08)
    np.testing.assert_allclose(found, np.asarray(y).mean(axis=0), atol=0.05)


def by_base(z):
    return {"z": z}


@pytest.mark.slow_for("50")
@pytest.mark.parametrize("size", [1, 10, 50])
def test_learning_by_importance_sampling_recovers_all_parameters(size):
    """w^2 + 1 and b become the rows' variance and mean; the proposal is the posterior at the present w and b, wider."""
    program, y = turned(size, 100, 0.8)
    problem = trace_observed(program)

    def loss(arrays, key):
        moved = eqx.tree_at(lambda p: (p.w, p.b), program, arrays)
        w, b = jax.lax.stop_gradient(arrays)

        def one(key, row):
            mean = w / (1 + w**2) * (program.rotation.T @ (row - b))
            proposal = Proposal(mean, 1.1 / jnp.sqrt(1 + w**2) * jnp.eye(size), by_base)
            return importance_marginal(key, problem.given({"y": row}), moved, proposal, 10).value

        return -jnp.mean(jax.vmap(one)(jax.random.split(key, len(y)), y))

    found_w, found_b = learned(loss, (program.w, program.b), 200, 0.1)
    mean = np.asarray(y).mean(axis=0)
    np.testing.assert_allclose(found_b, mean, atol=0.05)
    np.testing.assert_allclose(found_w**2 + 1, np.mean((np.asarray(y) - mean) ** 2), rtol=0.05)


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ProgramError, match=r"over 3 coordinates was given 4 draws; expected at least 6"):
        normal_proposal({"z": jnp.zeros((4, 3))})
    with pytest.raises(ProgramError, match="annealing needs the value"):
        tempered(TiltedTarget(lambda u: u, ScorePotential(lambda x: x), standard_normal().log_base), 0.5)
