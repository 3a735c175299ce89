"""Chains whose dear coordinates move in each m-th transition only."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from pplemd.dsl import Program, generate, latent, trace
from pplemd.errors import RecipeError
from pplemd.inference import (
    HMC,
    NUTS,
    Cancellation,
    Chain,
    Conditional,
    Coordinates,
    Langevin,
    Potential,
    Student,
    TiltedTarget,
    Unadjusted,
    barkers,
    emd_target,
    mala,
    simpson,
)
from pplemd.teachers import GaussianMixture

COUNT = 4000
MIX, NOISE = np.array([[1.0, 0.4], [-0.3, 0.8]]), 0.7
PULL, CENTRE = 1.5, np.array([1.0, -0.5])


def log_normal(u):
    return -0.5 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(u))


def law(strength, told=1.0):
    """x = MIX z + NOISE eps under U = strength |x - CENTRE|^2 / 2; where z is held, it is said to be `told` z."""

    def value(x):
        return 0.5 * strength * jnp.sum((x - jnp.asarray(CENTRE, x.dtype)) ** 2)

    def pushed(noise, z):
        return jnp.asarray(MIX, z.dtype) @ z + NOISE * noise

    def conditional(u):
        inner = TiltedTarget(lambda v: pushed(v.noise, told * u.latents["z"]), Potential(value), log_normal)
        return Conditional(inner, Coordinates(u.noise, None))

    return TiltedTarget(lambda u: pushed(u.noise, u.latents["z"]), Potential(value), log_normal, conditional)


def start(scale=1.0):
    key_noise, key_latents = jax.random.split(jax.random.key(0))
    noise, z = (scale * jax.random.normal(key, (COUNT, 2)) for key in (key_noise, key_latents))
    return Coordinates(noise, {"z": z})


@eqx.filter_jit
def run(chain, target, starts, seed=1):
    keys = jax.random.split(jax.random.key(seed), COUNT)
    return jax.vmap(lambda key, u: chain.run(key, target, u))(keys, starts)


def flat(u):
    return np.concatenate([np.asarray(u.noise), np.asarray(u.latents["z"])], axis=1).astype(np.float64)


@pytest.mark.parametrize("every", [1, 2, 4, 8])
def test_the_latents_move_once_a_cycle_and_the_noise_always(every):
    """Langevin without a potential, from zero: after k kicks the variance is 2 gamma sum_i (1 - gamma)^(2 i)."""
    gamma, length = 0.3, 8
    draw = run(Chain(Langevin(gamma), length, expensive_every=every), law(0.0), start(0.0))
    for block, kicks in ((draw.position.noise, length), (draw.position.latents["z"], length // every)):
        expected = 2 * gamma * sum((1 - gamma) ** (2 * i) for i in range(kicks))
        found = float(jnp.var(block))
        assert abs(found / expected - 1) < 4 * np.sqrt(2 / block.size)


def error(kernel, target, every=4, length=80):
    """The largest error of the law's mean and covariance, in standard errors: the law is Gaussian."""
    push = np.concatenate([NOISE * np.eye(2), MIX], axis=1)
    covariance = np.linalg.inv(np.eye(4) + PULL * push.T @ push)
    mean = covariance @ (PULL * push.T @ CENTRE)
    found = flat(run(Chain(kernel, length, expensive_every=every), target, start()).position)
    variances = np.diag(covariance)
    spread = np.sqrt((np.outer(variances, variances) + covariance**2) / COUNT)
    of_mean = np.abs(found.mean(axis=0) - mean) / np.sqrt(variances / COUNT)
    return max(of_mean.max(), (np.abs(np.cov(found.T) - covariance) / spread).max())


ADJUSTED = {
    "mala": mala(Coordinates(1.0, 0.8)),
    "hmc": HMC(Coordinates(0.6, 0.5), 3),
    "nuts": NUTS(Coordinates(0.6, 0.5), 2),
    "barkers": barkers(Coordinates(1.0, 0.8)),
}


@pytest.mark.slow
@pytest.mark.slow_for("barkers", "nuts")
@pytest.mark.parametrize("name", ADJUSTED)
def test_cycles_keep_the_law(name):
    assert error(ADJUSTED[name], law(PULL)) < 4


@pytest.mark.slow
def test_the_check_rejects_cycles_of_unlike_laws_and_of_no_correction():
    assert error(ADJUSTED["hmc"], law(PULL, told=0.0)) > 6
    assert error(HMC(Coordinates(1.0, 0.8), 1, Unadjusted()), law(PULL)) > 6


@pytest.mark.slow
@pytest.mark.slow_for("nuts-all", "nuts-paired")
@pytest.mark.parametrize("cancel", [Cancellation.ALL, Cancellation.PAIRED], ids=["all", "paired"])
@pytest.mark.parametrize("name", ["langevin", *ADJUSTED])
def test_without_a_potential_nothing_is_left(name, cancel):
    kernel = Langevin(0.2) if name == "langevin" else ADJUSTED[name]
    draw = run(Chain(kernel, 6, cancel, expensive_every=3), law(0.0), start())
    assert np.abs(flat(draw.residual)).max() < 3e-5
    assert np.abs(flat(draw.position) - flat(start())).mean(axis=0).min() > 0.1


@pytest.mark.slow_for("kernel0-1", "kernel1-6")
@pytest.mark.parametrize(("kernel", "each"), [(mala(0.5), 1), (HMC(0.5, 3, simpson()), 6), (Langevin(0.1), 1)])
def test_evaluations_are_those_of_all_transitions(kernel, each):
    draw = run(Chain(kernel, 8, expensive_every=4), law(PULL), start())
    np.testing.assert_array_equal(draw.evaluations, 8 * each)
    assert draw.acceptance.shape == draw.divergences.shape == (COUNT,)
    assert 0.3 < float(draw.acceptance.mean()) <= 1


@pytest.mark.slow
def test_a_law_that_holds_nothing_moves_everything_always():
    whole = eqx.tree_at(lambda t: t.conditional, law(PULL), None)
    draws = [run(Chain(mala(0.6), 4, expensive_every=every), whole, start()) for every in (1, 4)]
    assert eqx.tree_equal(draws[0].position, draws[1].position)


@pytest.mark.parametrize(("length", "every"), [(8, 3), (4, 8), (4, 0), (4, -2)])
def test_cycles_that_do_not_fit(length, every):
    with pytest.raises(RecipeError, match=f"length={length}, expensive_every={every}"):
        Chain(Langevin(0.1), length, expensive_every=every)


class Line(Program):
    """x = a z."""

    a: jax.Array

    def __call__(self):
        return generate("x", self.a * latent("z", dist.Normal(jnp.zeros(2), 1.0)))


@pytest.mark.slow
def test_em_distillations_law_holds_its_latents():
    """At a fixed z, [q / p](a z + sigma eps) N(eps) is a Gaussian of eps, which is where the noise must be."""
    a, sigma = 0.5, jnp.asarray(0.5)
    program = Line(jnp.asarray(a))
    student = Student(trace(program, shape=(2,)), program, GaussianMixture(np.zeros((1, 2)), a))
    target = emd_target(GaussianMixture(np.zeros((1, 2)), 1.0), student, sigma, None)
    kernel = HMC(Coordinates(0.7, 1e-7), 3, simpson())  # in the one transition of all, z has next to no step
    draw = run(Chain(kernel, 12, expensive_every=12), target, start())
    z = start().latents["z"]
    np.testing.assert_allclose(draw.position.latents["z"], z, atol=1e-5)
    rise = 1 / (1 + 0.25) - 1 / (a**2 + 0.25)  # U = rise x_sigma^2 / 2
    precision = 1 + 0.25 * rise
    residual = flat(draw.position)[:, :2] + 0.5 * rise * a * np.asarray(z, np.float64) / precision
    assert abs(residual.mean()) < 4 * np.sqrt(1 / precision / residual.size)
    assert abs(residual.var() * precision - 1) < 4 * np.sqrt(2 / residual.size)
