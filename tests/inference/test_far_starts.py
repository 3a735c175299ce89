"""Chains that start far from the bulk draw from the same law as those that start in it, and say the same of it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.dsl import trace_observed
from pplemd.inference import (
    HMC,
    NUTS,
    Potential,
    ScorePotential,
    TiltedTarget,
    barkers,
    long_chains,
    mala,
    posterior_target,
    transformed,
)
from pplemd.inference.long_chains import climbed

KEY = jax.random.key(0)
SIZE, CHAINS = 5, 16


def flat(potential):
    """The law of a potential alone."""
    return TiltedTarget(lambda x: x, potential, lambda x: jnp.zeros(()))


def half_square(x):
    return 0.5 * jnp.sum(x**2)


LAWS = {"density": flat(Potential(half_square)), "scores": flat(ScorePotential(jax.grad(half_square)))}
KERNELS = {"nuts": NUTS(doublings=4), "hmc": HMC(None, 5), "mala": mala(), "barkers": barkers()}


@eqx.filter_jit
def run(kernel, law, starts, warm_up=200, draws=800):
    return long_chains(KEY, law, kernel, starts, warm_up, draws)


def e_bfmi(energy):
    """Betancourt 2016, arXiv:1604.00695: of each chain."""
    energy = np.asarray(energy, np.float64)
    return (np.diff(energy, axis=1) ** 2).mean(axis=1) / energy.var(axis=1)


def assert_standard_normal(found):
    """Mean and s.d. of 12,800 draws worth 1,500 or more; energies that say that they are in the bulk."""
    x = np.asarray(found.positions, np.float64)
    np.testing.assert_allclose(x.mean(axis=(0, 1)), 0.0, atol=0.11)
    np.testing.assert_allclose(x.std(axis=(0, 1)), 1.0, atol=0.08)
    assert e_bfmi(found.energy).min() > 0.2
    assert 0.2 < float(found.acceptance.mean()) < 0.97


@pytest.mark.slow
@pytest.mark.slow_for("barkers-density", "barkers-scores", "hmc-scores", "mala-density", "nuts-density", "nuts-scores")
@pytest.mark.parametrize("by", LAWS)
@pytest.mark.parametrize("name", KERNELS)
def test_starts_from_1_to_a_million(name, by):
    """All in one run: two chains or more from each place, mixed with chains that start in the bulk."""
    places = jnp.asarray([1.0, 10.0, 3e3, 3e4, -3e4, 1e5, -1e5, 1e6] * 2)
    assert_standard_normal(run(KERNELS[name], LAWS[by], jnp.broadcast_to(places[:, None], (CHAINS, SIZE))))


@pytest.mark.slow_for("3000.0")
@pytest.mark.parametrize("place", [3e3, 1e6])
def test_a_chain_that_does_not_climb_arrives_too(place):
    """Without warm-up nothing climbs: 4,000 leapfrogs take it home, and what follows is decided from there."""
    starts = jnp.full((CHAINS, SIZE), place)
    found = run(HMC(0.7, 5), LAWS["density"], starts, 0, 1600)
    half = jax.tree.map(lambda leaf: leaf[:, 800:], (found.positions, found.energy))
    np.testing.assert_allclose(np.asarray(half[0], np.float64).std(axis=(0, 1)), 1.0, atol=0.05)
    assert e_bfmi(half[1]).min() > 0.6  # of a chain whose energy began up to 5e12 above


SCALES = jnp.asarray([1.0, 1e-6, 1e3, 1e-3, 30.0])


@pytest.mark.parametrize("far", [1.0, 1e3])
def test_a_climb_ends_in_the_bulk_whatever_the_scales(far):
    law = flat(ScorePotential(lambda x: x / SCALES**2))
    starts = far + SCALES[None] * jax.random.normal(KEY, (CHAINS, SIZE))
    camps = jax.jit(jax.vmap(lambda key, start: climbed(key, law, start)))(jax.random.split(KEY, CHAINS), starts)
    assert float(jnp.abs(camps.position / SCALES[None]).max()) < 4
    expected = np.minimum(SCALES, 1.0)  # no more than a priori
    np.testing.assert_allclose(camps.scale, np.broadcast_to(expected, camps.scale.shape), rtol=1e-2)


@pytest.mark.slow
def test_a_start_in_the_bulk_stays_where_it_is():
    starts = 10.0 * jax.random.normal(KEY, (CHAINS, SIZE))
    camps = jax.vmap(lambda start: climbed(KEY, LAWS["scores"], start))(starts)
    np.testing.assert_array_equal(camps.position, starts)
    np.testing.assert_array_equal(camps.scale, 1.0)


def test_a_climb_turns_back_where_the_score_is_not_finite():
    law = flat(ScorePotential(lambda x: jnp.where(jnp.abs(x) < 1.0, 1e4 * x, jnp.nan)))
    assert abs(float(climbed(KEY, law, jnp.asarray([0.95])).position[0])) < 0.05
    (stays,) = climbed(KEY, law, jnp.asarray([2.0])).position
    assert stays == 2.0


PRIOR, SPREAD, NOISE = 1000.0, 25.0, 0.01
DATA = np.asarray(3.0 + NOISE * np.random.default_rng(0).standard_normal(40), np.float32)


class Level(em.Program):
    """m ~ N(0, 1000), y ~ N(m, .01)."""

    def __call__(self):
        m = em.latent("m", dist.Normal(0.0, PRIOR))
        em.observe("y", dist.Normal(m, NOISE).expand([len(DATA)]), DATA)


class Spread(em.Program):
    """The same with s ~ HalfCauchy(25) in place of .01."""

    def __call__(self):
        s = em.latent("s", dist.HalfCauchy(SPREAD))
        m = em.latent("m", dist.Normal(0.0, PRIOR))
        em.observe("y", dist.Normal(m, s).expand([len(DATA)]), DATA)


def moments(program):
    """Mean and s.d. of each latent: of m in closed form given s, of s by quadrature over log s."""
    y = DATA.astype(np.float64)
    s = np.asarray([NOISE]) if program is Level else np.exp(np.linspace(np.log(y.std()) - 2, np.log(y.std()) + 3, 4001))
    precision = len(y) / s**2 + PRIOR**-2
    mean = y.sum() / s**2 / precision
    fit = -0.5 * (((y[:, None] - mean) / s) ** 2).sum(axis=0) - 0.5 * (mean / PRIOR) ** 2
    log_weight = fit - len(y) * np.log(s) - 0.5 * np.log(precision) + np.log(s) - np.log1p((s / SPREAD) ** 2)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    m = (weight * mean).sum()
    found = {"m": (m, np.sqrt((weight * (1 / precision + mean**2)).sum() - m**2))}
    center = (weight * s).sum()
    return found if program is Level else found | {"s": (center, np.sqrt((weight * (s - center) ** 2).sum()))}


def scored(law):
    """The same law, known by its scores alone."""
    return TiltedTarget(law.push, ScorePotential(jax.grad(law.potential.value)), law.log_base)


@pytest.mark.slow
@pytest.mark.slow_for("Level-scores", "Spread-density", "Spread-scores")
@pytest.mark.parametrize("by", LAWS)
@pytest.mark.parametrize("program", [Level, Spread])
def test_a_vague_prior_with_precise_data(program, by):
    """From draws of the prior, up to 1e5 times as far from the bulk as that is wide, and 1e10 nats below it."""
    problem = trace_observed(program())
    law = posterior_target(problem, program())
    law = scored(law) if by == "scores" else law
    starts = jax.vmap(lambda key: problem.draw(key, program()))(jax.random.split(KEY, CHAINS))
    found = run(NUTS(), law, starts, 200, 300)
    values = jax.vmap(jax.vmap(lambda u: problem.latents(program(), u)))(found.positions)
    for name, (mean, sd) in moments(program).items():
        x = np.asarray(values[name], np.float64)
        assert abs(x.mean() - mean) < 0.12 * sd, name  # 4 standard errors of 1,000 effective draws
        assert abs(x.std() / sd - 1) < 0.12, name
    assert e_bfmi(found.energy).min() > 0.4


class Groups(em.Program):
    """Sixteen centered effects that data say little about: in those coordinates their density grows towards s = 0."""

    def __call__(self):
        m = em.latent("m", dist.Normal(0.0, PRIOR))
        s = em.latent("s", dist.HalfNormal(5.0))
        effects = em.latent("e", dist.Normal(m, s).expand([16]), centered=True)
        em.observe("y", dist.Normal(effects, 5.0), 3.0 + jnp.linspace(-6.0, 6.0, 16))


@pytest.mark.slow
def test_a_climb_does_not_end_in_a_neck():
    """It goes by the density of base coordinates: the log-determinant of centered ones would draw s to 0."""
    program, problem = Groups(), trace_observed(Groups())
    base, lam = posterior_target(problem, program), problem.centering(0.0)
    law = transformed(base, lambda v: problem.to_base(program, v, lam))

    def end(key):
        v = problem.from_base(program, climbed(key, base, problem.draw(key, program)).position, lam)
        return problem.latents(program, problem.to_base(program, climbed(key, law, v).position, lam)[0])

    found = jax.jit(jax.vmap(end))(jax.random.split(KEY, 8))
    assert float(found["s"].min()) > 0.1
    assert float(jnp.abs(found["m"] - 3.0).max()) < 10
