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
    ScorePotential,
    TiltedLaw,
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


@pytest.mark.parametrize("size", [1, 10, 50])
def test_annealing_finds_the_known_value(size):
    program, exact, _ = factors(size)
    problem = trace_observed(program)
    found = eqx.filter_jit(annealed_marginal)(KEY, problem, program, 300, 60)
    error = close(found, exact)
    assert error < float(marginal(KEY, problem, program, 300).error)


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


def test_its_gradient_is_that_of_the_marginal():
    program, _, _ = factors(2)
    problem = trace_observed(program)
    gradient = eqx.filter_jit(
        jax.grad(lambda b, p: marginal(KEY, problem, eqx.tree_at(lambda q: q.b, p, b), 50_000).value)
    )
    precision = np.linalg.inv(np.asarray(program.w) @ np.asarray(program.w).T + np.eye(2))
    np.testing.assert_allclose(gradient(program.b, program), precision @ program.y, rtol=0.05, atol=0.01)


def test_learning_by_it_recovers_the_parameters():
    """200 rows of y_i ~ N(b + w z_i, 1): the sum of their estimates is greatest at b = mean, w^2 + 1 = variance."""
    y = (1.5 + np.sqrt(1 + 0.8**2) * np.random.default_rng(3).standard_normal(200)).astype(np.float32)
    program = Factors(jnp.full((1, 1), 0.3), jnp.zeros(1), y[:1])
    problem = trace_observed(program)
    optimiser = optax.adam(0.03)

    def loss(arrays, key):
        keys = jax.random.split(key, len(y))
        moved = eqx.tree_at(lambda p: (p.w, p.b), program, arrays)
        return -jnp.mean(
            jax.vmap(lambda k, row: marginal(k, problem.given({"y": row[None]}), moved, 60).value)(keys, y)
        )

    @jax.jit
    def update(arrays, memory, key):
        with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer count
            change, memory = optimiser.update(jax.grad(loss)(arrays, key), memory)
        return optax.apply_updates(arrays, change), memory

    arrays = (program.w, program.b)
    memory = optimiser.init(arrays)
    kept = []
    for step in range(400):
        arrays, memory = update(arrays, memory, jax.random.fold_in(KEY, step))
        kept.append((float(arrays[0][0, 0]) ** 2, float(arrays[1][0])))
    square, mean = np.mean(kept[-100:], axis=0)
    np.testing.assert_allclose(mean, y.mean(), atol=0.05)
    np.testing.assert_allclose(square + 1, y.var(), rtol=0.07)


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ProgramError, match=r"over 3 coordinates was given 4 draws; expected at least 6"):
        normal_proposal({"z": jnp.zeros((4, 3))})
    with pytest.raises(ProgramError, match="annealing needs the value"):
        tempered(TiltedLaw(lambda u: u, ScorePotential(lambda x: x), standard_normal().log_base), 0.5)
