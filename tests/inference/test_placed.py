"""A law in other coordinates: its density and score by automatic differentiation, its draws, what it holds."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from pplemd.dsl import Program, latent, observe, trace_observed
from pplemd.inference import (
    NUTS,
    Conditional,
    Coordinates,
    Potential,
    TiltedTarget,
    bulk_ess,
    long_chains,
    posterior_target,
    r_hat,
    transformed,
)

Y = jnp.array([2.0, -1.0, 0.5])


class Hierarchy(Program):
    """mu ~ N(0, 2), z_j ~ N(mu, 0.8), y_j ~ N(z_j, 0.5): Gaussian, so that the posterior is known."""

    spread: jax.Array

    def __call__(self):
        mu = latent("mu", dist.Normal(0.0, 2.0))
        z = latent("z", dist.Normal(mu, self.spread).expand([3]))
        observe("y", dist.Normal(z, 0.5), Y)


PROGRAM = Hierarchy(jnp.asarray(0.8))
PROBLEM = trace_observed(PROGRAM)
LAW = posterior_target(PROBLEM, PROGRAM)
LAMBDAS = {"0": PROBLEM.centering(0.0), "1": PROBLEM.centering(1.0), "between": PROBLEM.centering(0.7, 0.2)}


def law_of(lam):
    return transformed(LAW, lambda v: PROBLEM.to_base(PROGRAM, v, lam))


@pytest.mark.slow_for("0")
@pytest.mark.parametrize("name", LAMBDAS)
def test_density_and_score_are_those_of_the_joint(name):
    lam = LAMBDAS[name]
    u = PROBLEM.draw(jax.random.key(0), PROGRAM)
    v = PROBLEM.from_base(PROGRAM, u, lam)
    power, share = lam.scale["z"], lam.loc["z"]

    def expected(v):
        """Written out: the joint density of (mu, z) in the model's own numbers, and the change by hand."""
        mu = 2.0 * v["mu"]
        z = mu + 0.8 ** (1.0 - power) * (v["z"] - share * mu)
        joint = jnp.sum(jax.scipy.stats.norm.logpdf(z, mu, 0.8)) + jnp.sum(jax.scipy.stats.norm.logpdf(Y, z, 0.5))
        return joint + jax.scipy.stats.norm.logpdf(v["mu"]) + jnp.sum((1.0 - power) * jnp.log(0.8))

    np.testing.assert_allclose(law_of(lam).log_density(v), expected(v), rtol=1e-5)
    found, wanted = law_of(lam).score(v), jax.grad(expected)(v)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, wanted)


@pytest.mark.slow
def test_chains_in_all_coordinates_draw_the_same_posterior():
    """Against the exact Gaussian posterior, with one compilation."""
    precision = np.zeros((4, 4))
    precision[0, 0] = 1 / 4 + 3 / 0.64
    precision[0, 1:] = precision[1:, 0] = -1 / 0.64
    precision[1:, 1:] = np.eye(3) * (1 / 0.64 + 4.0)
    covariance = np.linalg.inv(precision)
    mean = covariance @ np.concatenate([[0.0], 4.0 * np.asarray(Y)])

    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def values(lam):
        keys = jax.random.split(jax.random.key(1), 4)
        starts = jax.vmap(lambda key: PROBLEM.from_base(PROGRAM, PROBLEM.draw(key, PROGRAM), lam))(keys)
        run = long_chains(keys[0], law_of(lam), NUTS(doublings=4), starts, 150, 400)

        def one(v):
            z = PROBLEM.latents(PROGRAM, PROBLEM.to_base(PROGRAM, v, lam)[0])
            return jnp.concatenate([z["mu"][None], z["z"]])

        return jax.vmap(jax.vmap(one))(run.positions)

    for lam in LAMBDAS.values():
        draws = values(lam)
        ess = np.asarray(bulk_ess(draws))
        assert np.all(ess > 150)
        assert np.all(np.asarray(r_hat(draws)) < 1.05)
        pooled = np.asarray(draws).reshape(-1, 4)
        spread = np.sqrt(np.diag(covariance))
        assert np.all(np.abs(pooled.mean(axis=0) - mean) < 4.5 * spread / np.sqrt(ess))
        assert np.all(np.abs(pooled.std(axis=0) / spread - 1.0) < 4.5 / np.sqrt(ess))


def test_posteriors_of_one_problem_share_a_compilation():
    @eqx.filter_jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def score(law, u):
        return law.score(u)["mu"]

    u = PROBLEM.draw(jax.random.key(0), PROGRAM)
    others = [posterior_target(PROBLEM.given({"y": Y + shift}), PROGRAM) for shift in (0.0, 1.0)]
    found = [float(score(law, u)) for law in others]
    np.testing.assert_allclose(found[0], float(LAW.score(u)["mu"]), rtol=1e-4)
    np.testing.assert_allclose(found[1] - found[0], 2.0 * 3 / 0.5**2, rtol=1e-3)


def test_what_is_held_stays_held():
    """x = g(z) + sigma eps, in the coordinates v = g(z) + sigma eps of its noise: the law of v given z."""
    sigma, matrix = 0.7, jnp.array([[1.0, 0.4], [-0.3, 0.8]])

    def push(u):
        return matrix @ u.latents + sigma * u.noise

    def log_base(u):
        return -0.5 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(u))

    def conditional(u):
        inner = TiltedTarget(lambda free: push(Coordinates(free.noise, u.latents)), potential, log_base)
        return Conditional(inner, Coordinates(u.noise, None))

    def change(v):
        return Coordinates((v.noise - matrix @ v.latents) / sigma, v.latents), -2.0 * jnp.log(sigma)

    potential = Potential(lambda x: jnp.sum(x**4))
    whole = transformed(TiltedTarget(push, potential, log_base, conditional), change)
    v = Coordinates(jnp.array([0.3, -0.8]), jnp.array([1.0, 0.2]))
    held = whole.conditional(v)
    assert held.position.latents is None
    np.testing.assert_array_equal(held.position.noise, v.noise)
    np.testing.assert_allclose(held.target.score(held.position).noise, whole.score(v).noise, rtol=1e-5)
    expected = jax.grad(lambda x: -jnp.sum(x**4) - 0.5 * jnp.sum(((x - matrix @ v.latents) / sigma) ** 2))(v.noise)
    np.testing.assert_allclose(whole.score(v).noise, expected, rtol=1e-5)


@pytest.mark.slow
def test_mixing_of_autoregressive_chains():
    """An AR(1) of coefficient a has an effective share (1 - a) / (1 + a) of its draws; chains that disagree show."""
    count, share = 2000, 0.8
    noise = np.random.default_rng(0).normal(size=(4, count, 2))
    draws = np.zeros_like(noise)
    for i in range(1, count):
        draws[:, i, 0] = share * draws[:, i - 1, 0] + np.sqrt(1 - share**2) * noise[:, i, 0]
        draws[:, i, 1] = noise[:, i, 1]
    ess = np.asarray(bulk_ess(jnp.asarray(draws, jnp.float32))) / (4 * count)
    np.testing.assert_allclose(ess, [(1 - share) / (1 + share), 1.0], rtol=0.2)
    apart = draws + np.array([0.0, 0.0, 0.0, 2.0])[:, None, None]
    assert np.all(np.asarray(r_hat(jnp.asarray(apart, jnp.float32))) > 1.1)
    assert np.all(np.asarray(r_hat(jnp.asarray(draws[:, 100:], jnp.float32))) < 1.02)
