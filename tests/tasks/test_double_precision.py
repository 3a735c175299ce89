"""JAX's 64-bit mode: distillation in 32 bits, posteriors and fits in the session's own."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import pplemd as em
from pplemd.dsl import trace_observed
from pplemd.errors import CheckpointError, ProgramError
from pplemd.runs import record
from pplemd.runs.declared import declare_value
from pplemd.storage.folder import RunFolder
from pplemd.tasks.results import in_single, narrow, restored

FAR = 1e8 + np.array([0.25, 1.0, 1.5])  # in 32 bits these are one number


def far(y):
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    numpyro.deterministic("whole", jnp.round(z).astype(int))
    numpyro.sample("y", dist.Normal(1e8 + z[0] * z[1], 1.0), obs=y)


@pytest.mark.slow
def test_a_posterior_is_computed_in_the_bits_that_it_was_traced_in():
    with jax.enable_x64(True):
        teacher, x = em.posterior(far, FAR), jnp.array([0.5, -0.7])
        density = np.asarray(teacher.log_q(x))
        assert density.dtype == np.float64
        assert teacher.log_q(x.astype(jnp.float32)).dtype == jnp.float32
    x = jnp.array([0.5, -0.7])
    left, swapped = FAR - 1e8 + 0.35, np.array([-0.7, 0.5])
    np.testing.assert_allclose(density, stats.norm.logpdf(x).sum() + stats.norm.logpdf(left).sum(), rtol=1e-6)
    values = teacher.constrain(x)
    assert (values["whole"].dtype, values["z"].dtype) == (jnp.int32, jnp.float32)
    slope, curve = eqx.filter_jit(lambda x: (jax.grad(teacher.log_q)(x), jax.hessian(teacher.log_q)(x)))(x)
    assert (slope.dtype, curve.dtype) == (jnp.float32, jnp.float32)
    np.testing.assert_allclose(slope, -x + swapped * left.sum(), rtol=1e-6)
    np.testing.assert_allclose(
        curve, -np.eye(2) + left.sum() * np.eye(2)[::-1] - 3 * np.outer(swapped, swapped), rtol=1e-6
    )


@pytest.mark.slow
def test_and_one_of_32_bits_is_asked_in_64():
    def model(y):
        numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=y)

    teacher = em.posterior(model, 2.0)
    with jax.enable_x64(True):
        slope = np.asarray(jax.grad(teacher.log_q)(jnp.array([0.3])))
    assert slope.dtype == np.float64
    np.testing.assert_allclose(slope, [-0.3 + 1.7], rtol=1e-6)


class Pushed(em.Program):
    net: em.networks.MLP

    def __call__(self):
        return em.generate("x", self.net(em.latent("z", dist.Normal(jnp.zeros(2), 1.0))))


def model():
    return em.Model(
        lambda teacher, key: Pushed(em.networks.MLP((2,), (2,), width=4, depth=1, key=key)),
        em.teachers.ScoreFunction(Pull(jnp.ones(2)), (2,)),
        networks={
            "score": lambda key: em.Denoiser(em.networks.TimedMLP((2,), width=4, blocks=1, key=key), sigma_data=1.0)
        },
    )


class Pull(eqx.Module):
    """The score of N(at, I), noised."""

    at: jax.Array

    def __call__(self, x, sigma):
        return (self.at - x) / (1 + sigma**2)


def test_a_model_is_distilled_in_32_bits():
    with restored():
        jax.config.update("jax_enable_x64", True)
        wide = model()
        assert wide.teacher.function.at.dtype == jnp.float64
        declared = declare_value(wide)
        assert declared.narrowed
        assert not jax.config.read("jax_enable_x64")
        planned = declared.distillation.plan()
    assert planned.problem.output.dtype == np.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((planned.networks["generator"], planned.teacher))} == {
        np.dtype("float32")
    }
    assert not declare_value(model()).narrowed


class Spread(Pushed):
    """Of an array that its class refers to, of the mode in which it was made."""

    def __call__(self):
        z = em.latent("z", dist.MultivariateNormal(jnp.zeros(2), jnp.diag(SPREAD)))
        return em.generate("x", self.net(z))


with jax.enable_x64(True):
    SPREAD = jnp.ones(2)


def test_a_program_that_refers_to_arrays_of_64_bits_is_told_of_the_mode():
    networks = em.networks.MLP((2,), (2,), width=4, depth=1, key=jax.random.key(0))
    with pytest.raises(ProgramError, match="Spread.__call__: .*64-bit mode: make that by NumPy"):
        dataclasses.replace(model(), program=lambda teacher, key: Spread(networks)).plan()


def test_a_generator_draws_in_32_bits_in_a_session_of_64():
    planned = model().plan()
    program = Pushed(em.networks.MLP((2,), (2,), width=4, depth=1, key=jax.random.key(0)))
    distilled = em.Distilled(planned.problem, program, None)
    expected = distilled.sample(jax.random.key(1), 3)
    with jax.enable_x64(True):
        found = distilled.sample(jax.random.key(1), 3)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == jnp.float32
    assert in_single(lambda: jnp.zeros(()).dtype)() == jnp.float32


class Levels(em.Program):
    spread: jax.Array

    def __call__(self):
        z = em.latent("z", dist.Normal(0.0, self.spread).expand([3]))
        em.observe("y", dist.Normal(1e8 + z, 1.0), FAR)


def test_a_fit_is_in_the_session_s_own_mode(tmp_path):
    with jax.enable_x64(True):
        program = Levels(jnp.asarray(2.0))
        problem, u = trace_observed(program), np.array([0.1, -0.2, 0.3])
        found = np.asarray(problem.log_likelihood(program, {"z": jnp.asarray(u)}))
    np.testing.assert_allclose(found, stats.norm.logpdf(FAR - 1e8, 2 * u).sum(), rtol=1e-6)
    declared, folder = declare_value(em.Fit(program=lambda key: Levels(jnp.asarray(2.0)))), RunFolder(tmp_path)
    for environment, message in (({"bits": "64"}, "made in JAX's 64-bit mode.*JAX_ENABLE_X64=1"), ({}, None)):
        (tmp_path / "config.json").write_text(json.dumps({"environment": environment}))
        if message is None:
            record.check_mode(declared, folder)
        else:
            with pytest.raises(CheckpointError, match=message):
                record.check_mode(declared, folder)


def levels(X, y):
    w = numpyro.sample("w", dist.Normal(0.0, 10.0).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(X @ w, 1.0), obs=y)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_loops_that_are_mapped_ask_a_posterior_in_its_own_bits():
    X = np.random.default_rng(0).normal(size=(20, 2))
    with jax.enable_x64(True):
        teacher = em.posterior(levels, X, y=X @ [1.0, 2.0])
    at, sigma = np.array([[0.2, 0.1], [-1.0, 3.0]]), 0.1

    def both(x):  # the rule of noise has a loop; so has a chain
        def step(x, _):
            return x + 1e-3 * teacher.score(x, jnp.asarray(sigma)), jax.value_and_grad(teacher.log_q)(x)[0]

        return jax.lax.scan(step, x, length=2)

    found, densities = jax.jit(jax.vmap(both))(jnp.asarray(at))
    H, x = X.T @ X + np.eye(2) / 100, at
    for step in range(2):
        gone = ((x @ X.T - X @ [1.0, 2.0]) ** 2).sum(1) / 2 + (x**2).sum(1) / 200
        constant = 22 * np.log(2 * np.pi) / 2 + 2 * np.log(10.0)
        np.testing.assert_allclose(densities[:, step], -gone - constant, rtol=1e-6)
        slope = X.T @ (X @ [1.0, 2.0]) - x @ H
        x = x + 1e-3 * np.linalg.solve(np.eye(2) + sigma**2 * H, slope.T).T
    np.testing.assert_allclose(found, x, rtol=1e-6)


def functions():
    """Of the law N(at, 4 I), in functions that refer to arrays of the session's own bits."""
    at, spread = jnp.array([1.0, -2.0]), jnp.array([2.0, 2.0])

    def score(x, sigma, label=None):
        return jax.grad(lambda x: jax.scipy.stats.norm.logpdf(x, at, jnp.hypot(spread, sigma)).sum())(x)

    return (
        em.teachers.ScoreFunction(score, (2,)),
        em.teachers.DenoiserFunction(em.diffusion.VEScore(score), (2,)),
        em.Density(lambda x: dist.MultivariateNormal(at, jnp.diag(spread**2)).log_prob(x), (2,)),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_functions_that_refer_to_arrays_of_64_bits_are_asked_in_64():
    with jax.enable_x64(True):
        score, denoiser, density = map(narrow, functions())
    x, sigma = jnp.array([0.5, 3.0]), jnp.asarray(0.5)
    for teacher in (score, denoiser, density):
        found = jax.jit(jax.vmap(teacher.score, (0, None)))(x[None], sigma)[0]
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, (np.array([1.0, -2.0]) - x) / 4.25, rtol=1e-5)
    slopes = jax.jacfwd(score.score)(x, sigma), jax.jacrev(score.score)(x, sigma)
    np.testing.assert_allclose(slopes, [-np.eye(2) / 4.25] * 2, atol=1e-6)
    for slope in (jax.grad, jax.jacfwd):  # in sigma, too
        found = slope(lambda sigma: score.score(x, sigma)[0])(sigma)
        np.testing.assert_allclose(found, -0.5 * 2 * 0.5 / 4.25**2, rtol=1e-5)


def test_a_model_of_such_a_function_is_narrowed():
    with restored():
        jax.config.update("jax_enable_x64", True)
        teacher = declare_value(dataclasses.replace(model(), teacher=functions()[0])).task.teacher
    assert teacher.score(jnp.zeros(2), jnp.ones(())).dtype == jnp.float32
