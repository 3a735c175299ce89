"""Every kernel meets the contract; each leaves invariant what its theory says."""

import dataclasses
import re
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from blackjax.mcmc.proposal import static_binomial_sampling

from pplemd.errors import RecipeError
from pplemd.inference import (
    HMC,
    MCLMC,
    NUTS,
    AbstractCorrection,
    Exact,
    Langevin,
    LineIntegral,
    OneShot,
    Potential,
    ScorePotential,
    TiltedTarget,
    Unadjusted,
    barkers,
    gauss_legendre,
    mala,
    simpson,
    standard_normal,
)
from pplemd.teachers import GaussianMixture, sample


def sizes(x, y):
    """Step sizes per block, as arrays: one compilation serves them all."""
    return {"x": jnp.asarray(x), "y": jnp.asarray(y)}


KERNELS = {
    "langevin": Langevin(sizes(0.3, 0.1)),
    "langevin, truncated": Langevin(sizes(0.3, 0.1), 0.5),
    "hmc unadjusted": HMC(sizes(0.5, 0.2), 1, Unadjusted()),
    "hmc unadjusted, long": HMC(sizes(0.5, 0.5), 4, Unadjusted()),
    "hmc exact": HMC(sizes(0.8, 0.4)),
    "hmc exact, long": HMC(sizes(0.5, 0.7), 4),
    "hmc on scores": HMC(sizes(0.5, 0.7), 4, simpson()),
    "mala on scores": mala(sizes(0.8, 0.4), gauss_legendre(3)),
    "nuts exact": NUTS(sizes(0.6, 0.5), 4),
    "nuts on scores": NUTS(sizes(0.6, 0.5), 4, simpson()),
    "mclmc": MCLMC(sizes(0.4, 0.3)),
    "barker exact": barkers(sizes(0.9, 0.7)),
}
TELLING = [name for name, kernel in KERNELS.items() if isinstance(kernel, Langevin | HMC)]  # of their noise
UNSEEN = (NUTS, MCLMC, OneShot)  # their twins run on common random numbers


def log_normal(u):
    return -0.5 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(u))


def stacked(u):
    return jnp.append(u["x"], u["y"])


class Bent(eqx.Module):
    """A potential that couples the blocks and has no symmetry; of strength 0 it leaves the base."""

    strength: jax.Array

    def __call__(self, x):
        return self.strength * (jnp.sum((x[:2] - jnp.sin(x[2])) ** 2) + jnp.tanh(x[0]) - 0.3 * jnp.sum(jnp.cos(x)))


BENT = TiltedTarget(stacked, Potential(Bent(jnp.ones(()))), log_normal)
BASE = TiltedTarget(stacked, Potential(Bent(jnp.zeros(()))), log_normal)
COUNT = 32
START = {"x": jax.random.normal(jax.random.key(1), (COUNT, 2)), "y": jax.random.normal(jax.random.key(2), (COUNT,))}


@eqx.filter_jit
def advance(kernel, target, start, key):
    """One transition of every chain, and its shadow from the same start, with and without noise."""

    def one(key, position):
        first = kernel.init(key, target, position)
        state, info = kernel.step(key, first, target)
        coupled = kernel.init(key, standard_normal(), position)
        silent = None if isinstance(kernel, UNSEEN) else kernel.couple(key, coupled, info, 0.0).position
        return first, state, info, kernel.couple(key, coupled, info, 1.0).position, silent

    return jax.vmap(one)(jax.random.split(key, len(jax.tree.leaves(start)[0])), start)


def shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


@pytest.mark.slow_for("nuts exact", "nuts on scores", "barker exact", "mclmc", "hmc on scores", "hmc exact")
@pytest.mark.parametrize("name", KERNELS)
def test_contract(name):
    first, state, info, shadow, _ = advance(KERNELS[name], BENT, START, jax.random.key(0))
    assert shapes(first) == shapes(state)  # so that transitions can be scanned
    assert jax.tree.structure(first) == jax.tree.structure(state)
    assert shapes(state.position) == shapes(START) == shapes(shadow)
    assert info.accepted.shape == info.acceptance.shape == (COUNT,)
    assert bool(jnp.all((info.acceptance >= 0) & (info.acceptance <= 1)))
    moved = jax.tree.map(lambda new, old: jnp.any((new != old).reshape(COUNT, -1), axis=-1), state.position, START)
    for block in moved.values():
        assert jnp.array_equal(block, info.accepted)
    again = advance(KERNELS[name], BENT, START, jax.random.key(0))[1]
    assert eqx.tree_equal(again, state)


@pytest.mark.slow
@pytest.mark.slow_for("nuts on scores")
@pytest.mark.parametrize("name", KERNELS)
def test_the_shadow_is_the_same_transition_of_the_standard_normal(name):
    _, state, _, shadow, _ = advance(KERNELS[name], BASE, START, jax.random.key(3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), state.position, shadow)


@pytest.mark.slow_for("hmc exact", "hmc on scores")
@pytest.mark.parametrize("name", TELLING)
def test_the_shadow_takes_the_decision_and_the_noise_of_its_chain(name):
    kernel = KERNELS[name]
    if isinstance(kernel, HMC):
        kernel = dataclasses.replace(kernel, jitter=0.0)  # or paths of two keys have two lengths
    _, _, info, shadow, silent = advance(kernel, BENT, START, jax.random.key(4))
    _, _, other, _, silent_too = advance(kernel, BENT, START, jax.random.key(5))
    both = np.asarray(info.accepted & other.accepted)
    assert both.sum() > COUNT // 4
    for block, start in START.items():
        rejected = ~np.asarray(info.accepted)
        np.testing.assert_array_equal(shadow[block][rejected], start[rejected])
        np.testing.assert_allclose(silent[block][both], silent_too[block][both], atol=1e-6)
        assert np.abs(shadow[block] - silent[block])[both].max() > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
def test_a_step_size_moves_its_own_block(name):
    kernel = eqx.tree_at(lambda k: k.step_size, KERNELS[name], sizes(0.3, 1e-9))
    _, state, info, _, _ = advance(kernel, BENT, START, jax.random.key(6))
    assert np.abs(state.position["y"] - START["y"]).max() < 1e-3
    assert np.abs(state.position["x"] - START["x"])[np.asarray(info.accepted)].max() > 0.3


def test_one_number_serves_every_block():
    one, each = (advance(Langevin(size), BENT, START, jax.random.key(7))[1] for size in (0.4, sizes(0.4, 0.4)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one.position, each.position)


@pytest.mark.slow
def test_a_truncation_shortens_what_is_longer_and_leaves_the_rest():
    """Drifts of a steep law: each block's root mean square is the truncation, in the direction it had; others stay."""
    steep = TiltedTarget(stacked, Potential(Bent(jnp.full((), 3.0))), log_normal)
    gamma, most = sizes(0.3, 0.1), 5.0
    free, cut = (advance(Langevin(gamma, limit), steep, START, jax.random.key(7))[1] for limit in (None, most))
    score = jax.vmap(steep.score)(START)
    long = {name: np.sqrt(np.mean(np.asarray(score[name]).reshape(COUNT, -1) ** 2, axis=1)) for name in START}
    assert (long["x"] > most).any()
    assert (long["x"] < most).any()
    for name, length in long.items():
        share = np.minimum(1, most / length).reshape(-1, *[1] * (START[name].ndim - 1))
        expected = free.position[name] + gamma[name] * (share - 1) * score[name]
        np.testing.assert_allclose(cut.position[name], expected, rtol=1e-4, atol=1e-4)
        whole = length < most
        np.testing.assert_array_equal(cut.position[name][whole], free.position[name][whole])


@pytest.mark.parametrize("truncation", [0.0, -1.0, float("nan")])
def test_a_truncation_that_is_none_is_refused(truncation):
    with pytest.raises(RecipeError, match="expected a length above 0"):
        Langevin(0.1, truncation)


@pytest.mark.slow_for("1")
@pytest.mark.parametrize("leapfrogs", [1, 4])
def test_hmc_is_leapfrogs_and_metropolis(leapfrogs):
    """Against the leapfrog written out, from the momentum that the kernel reports, mass 1 / h^2 and unit step."""
    steps = sizes(0.8, 0.4)
    _, state, info, _, _ = advance(HMC(steps, leapfrogs, jitter=0.0), BENT, START, jax.random.key(7))
    gradient = jax.vmap(jax.grad(BENT.log_density))
    tree = jax.tree.map
    position, momentum = START, info.noise
    for _ in range(leapfrogs):
        half = tree(lambda p, g: p + 0.5 * g, momentum, gradient(position))
        position = tree(lambda u, p, h: u + h**2 * p, position, half, steps)
        momentum = tree(lambda p, g: p + 0.5 * g, half, gradient(position))

    def energy(u, p):
        kinetic = sum(0.5 * h**2 * jnp.sum(p[block].reshape(COUNT, -1) ** 2, axis=-1) for block, h in steps.items())
        return kinetic - jax.vmap(BENT.log_density)(u)

    expected = jnp.minimum(1.0, jnp.exp(energy(START, info.noise) - energy(position, momentum)))
    np.testing.assert_allclose(info.acceptance, expected, rtol=2e-3, atol=1e-5)
    assert float(expected.min()) < 0.95
    for block in steps:
        accepted = np.asarray(info.accepted)
        np.testing.assert_allclose(state.position[block][accepted], position[block][accepted], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_jitter_breaks_half_periods():
    """Four leapfrogs of h are half a period of N(0, I) where cos(4 phi) = -1, cos(phi) = 1 - h^2 / 2: u goes to -u."""
    h = float(np.sqrt(2 - 2 * np.cos(np.pi / 4)))
    start = jnp.full((4000, 1), 3.0)
    for jitter, square in ((0.0, 9.0), (0.2, 1.0)):
        end = ends(HMC(h, 4, Unadjusted(), jitter=jitter), standard_normal(), start, 60)[0]
        bias = 1 / (1 - h**2 / 4) if jitter else 1.0  # the leapfrog's own, of a normal law
        assert abs(float(jnp.mean(end**2)) / (square * bias) - 1) < (0.1 if jitter else 1e-3)


def test_one_unadjusted_leapfrog_is_langevin_of_half_the_square():
    """x + gamma s + sqrt(2 gamma) n at gamma = h^2 / 2, n = h p."""
    steps = sizes(0.5, 0.2)
    _, state, info, _, _ = advance(HMC(steps, 1, Unadjusted()), BENT, START, jax.random.key(8))
    score = jax.vmap(BENT.score)(START)
    for block, h in steps.items():
        gamma, noise = h**2 / 2, h * info.noise[block]
        expected = START[block] + gamma * score[block] + jnp.sqrt(2 * gamma) * noise
        np.testing.assert_allclose(state.position[block], expected, rtol=1e-4, atol=1e-5)
        assert abs(float(jnp.mean(noise**2)) - 1) < 4 * np.sqrt(2 / noise.size)


SKEWED = GaussianMixture([[-0.6, 0.0], [1.2, 1.0]], [0.5, 0.9], [3.0, 1.0])
CHAINS, LENGTH = 10_000, 40  # chains are independent: the ESS of each moment is CHAINS


def tilt(x):
    """Tilts the standard normal to the skewed mixture."""
    return log_normal(x) - SKEWED.log_density(x, jnp.zeros(()))


TILTED = TiltedTarget(lambda u: u, Potential(tilt), log_normal)


class Flipped(AbstractCorrection):
    """Broken: tilts the wrong way."""

    def gain(self, target, start, end):
        base, value = target.log_base, target.potential.value
        return base(end.position) - base(start.position) + value(end.x) - value(start.x)

    def decide(self, key, energy_gain, current, proposed):
        return static_binomial_sampling(key, energy_gain, current, proposed)

    def evaluations(self, target):
        return 1


@eqx.filter_jit
def ends(kernel, target, start, length):
    """Ends of chains and their mean acceptance."""

    def one(key, position):
        def step(state, step_key):
            state, info = kernel.step(step_key, state, target)
            return state, info.acceptance

        state, acceptance = jax.lax.scan(step, kernel.init(key, target, position), jax.random.split(key, length))
        return state.position, jnp.mean(acceptance)

    return jax.vmap(one)(jax.random.split(jax.random.key(10), start.shape[0]), start)


def moments(x):
    return np.stack([x[:, 0], x[:, 1], x[:, 0] ** 2, x[:, 1] ** 2, x[:, 0] * x[:, 1], x[:, 0] ** 3, x[:, 1] ** 3], -1)


@cache
def expected_moments():
    """Of many exact draws: their error is a sixth of the chains'."""
    return moments(np.asarray(sample(jax.random.key(11), SKEWED, 40 * CHAINS), np.float64))


def worst_error(kernel, target=TILTED):
    """Chains from the standard normal: the largest error of a moment of the target, in standard errors."""
    start = jax.random.normal(jax.random.key(9), (CHAINS, 2))
    x, acceptance = ends(kernel, target, start, LENGTH)
    expected = expected_moments()
    found = moments(np.asarray(x, np.float64))
    error = np.sqrt(found.var(0) / CHAINS + expected.var(0) / len(expected))
    return np.abs((found.mean(0) - expected.mean(0)) / error).max(), float(acceptance.mean())


SCORED = TiltedTarget(TILTED.push, ScorePotential(jax.grad(tilt)), log_normal)  # the same law, known by its score alone
ADJUSTED = {
    "mala": mala(0.8),
    "hmc": HMC(0.6, 4),
    "nuts": NUTS(0.8, 3),
    "barker": barkers(1.2),
}


@pytest.mark.slow
@pytest.mark.slow_for("nuts")
@pytest.mark.parametrize("name", ADJUSTED)
def test_adjusted_kernels_reach_a_skewed_target_and_stay(name):
    """On its score alone; test_exactness.py has the densities."""
    error, acceptance = worst_error(ADJUSTED[name], SCORED)
    assert 0.4 < acceptance < 0.97  # the correction has something to do
    assert error < 4


FLIPPED_LINE = LineIntegral(weights=(-1 / 6, -4 / 6, -1 / 6))
TRAPEZOID = LineIntegral((0.0, 1.0), (0.5, 0.5))


@pytest.mark.parametrize("correction", [Unadjusted(), Flipped(), FLIPPED_LINE, TRAPEZOID])
def test_the_check_above_rejects_broken_kernels(correction):
    error, _ = worst_error(HMC(0.8, 1, correction))
    assert error > 6


@pytest.mark.slow
def test_line_integrals_are_differences_of_densities():
    """On a bent push too: the line is straight in x."""
    law = TiltedTarget(lambda u: jnp.stack([u[0] + u[1] ** 2, jnp.sin(u[1])]), Potential(tilt), log_normal)
    places = 0.5 * jax.random.normal(jax.random.key(20), (2, 50, 2))
    start, end = (jax.vmap(law.visit)(place) for place in places)
    exact, line, rough = (
        np.asarray(jax.vmap(lambda a, b, rule=rule: rule.gain(law, a, b))(start, end))
        for rule in (Exact(), gauss_legendre(24), TRAPEZOID)
    )
    np.testing.assert_allclose(line, exact, atol=2e-3)
    assert np.abs(rough - exact).max() > 0.1
    assert np.abs(exact).max() > 1


@pytest.mark.slow
def test_quadratures_are_exact_to_their_degree():
    cubic = TiltedTarget(lambda u: u, ScorePotential(lambda x: x**3 - 2 * x**2 + 1), log_normal)
    start, end = cubic.visit(jnp.asarray([-1.0])), cubic.visit(jnp.asarray([2.0]))
    expected = -(2.0**2 - 1) / 2 - ((16 - 1) / 4 - 2 * (8 + 1) / 3 + 3)
    for rule in (simpson(), gauss_legendre(2), gauss_legendre(3)):
        assert abs(float(rule.gain(cubic, start, end)) - expected) < 1e-5
    assert abs(float(TRAPEZOID.gain(cubic, start, end)) - expected) > 1


def test_the_end_of_a_leapfrog_is_asked_once():
    """Simpson's two gradients a leapfrog and one at the start, for all that the integrator and the rule look at."""
    matrix = jax.random.normal(jax.random.key(0), (256, 256)) / 256

    def operations(target):
        def run(key, u):
            return HMC(0.3, 5, simpson()).step(key, HMC(0.3, 5).init(key, target, u), target)[0].position

        found = jax.jit(run).lower(jax.random.key(1), jnp.ones(256)).compile().as_text()
        return len(re.findall(r"f32\[256(?:,1)?\]\S* dot\(", found))  # jaxlib 0.12 writes the vector as a matrix

    assert operations(TiltedTarget(lambda u: u, ScorePotential(lambda x: matrix @ x), log_normal)) == 3


MEAN, PRECISION = 1.0, 2.0
NORMAL = TiltedTarget(
    lambda u: u,
    Potential(lambda x: jnp.sum(0.5 * (PRECISION - 1) * x**2 - PRECISION * MEAN * x)),
    log_normal,
)
H = 0.8


@pytest.mark.slow_for("exact", "four leapfrogs")
@pytest.mark.parametrize(
    ("kernel", "bias"),
    [
        (Langevin(H**2 / 2), 1 / (1 - PRECISION * H**2 / 4)),  # an AR(1) with factor 1 - gamma precision
        (HMC(H, 4, Unadjusted(), jitter=0.0), 1 / (1 - PRECISION * H**2 / 4)),  # p^2 + (1 - precision h^2 / 4) x^2
        (HMC(H, 4, Exact()), 1.0),
    ],
    ids=["langevin", "four leapfrogs", "exact"],
)
def test_bias_on_a_normal_is_the_known_one(kernel, bias):
    start = jax.random.normal(jax.random.key(12), (20_000, 1))
    x = np.asarray(ends(kernel, NORMAL, start, 40)[0], np.float64)
    variance = bias / PRECISION
    assert abs(x.mean() - MEAN) < 4 * np.sqrt(variance / x.size)
    assert abs(x.var() / variance - 1) < 4 * np.sqrt(2 / x.size)
    assert abs(bias - 1) > 12 * np.sqrt(2 / x.size) or bias == 1.0  # the tolerance can see the bias
