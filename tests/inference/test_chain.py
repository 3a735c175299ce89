"""The chain and its twin: what is left of a chain when its noise is taken back."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import RecipeError
from pplemd.inference import (
    HMC,
    MCLMC,
    NUTS,
    Cancellation,
    Chain,
    Langevin,
    Potential,
    ScorePotential,
    TiltedTarget,
    Unadjusted,
    barkers,
    gauss_legendre,
    mala,
)

KERNELS = {
    "langevin": Langevin(0.2),
    "hmc unadjusted": HMC(0.4, 3, Unadjusted()),
    "hmc exact": HMC({"x": 0.7, "y": 0.9}, 3),
    "mala on scores": mala(0.8, gauss_legendre(3)),
    "nuts": NUTS(0.5, 3),
    "mclmc": MCLMC(0.5),
    "barker": barkers(0.8),
}
LENGTH = 4
MODES = {
    "all": Cancellation.ALL,
    "injected": Cancellation.INJECTED,
    "initial": Cancellation.INITIAL,
    "none": Cancellation.NONE,
}
COUNT = 64
START = {"x": jax.random.normal(jax.random.key(1), (COUNT, 2)), "y": jax.random.normal(jax.random.key(2), (COUNT,))}


def log_normal(u):
    return -0.5 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(u))


class Bent(eqx.Module):
    """A potential without symmetry; of strength 0 it leaves the base."""

    strength: jax.Array

    def __call__(self, x):
        return self.strength * (jnp.sum((x[:2] - jnp.sin(x[2])) ** 2) + jnp.tanh(x[0]))


def stacked(u):
    return jnp.append(u["x"], u["y"])


def law(strength):
    return TiltedTarget(stacked, Potential(Bent(jnp.asarray(strength))), log_normal)


@eqx.filter_jit
def run(chain, target, start, key):
    keys = jax.random.split(key, len(jax.tree.leaves(start)[0]))
    return jax.vmap(lambda k, u: chain.run(k, target, u))(keys, start)


def flat(tree):
    return np.concatenate([np.asarray(leaf).reshape(COUNT, -1) for leaf in jax.tree.leaves(tree)], axis=1)


@pytest.mark.slow_for("nuts", "mclmc", "barker", "hmc exact")
@pytest.mark.parametrize("name", KERNELS)
def test_without_a_potential_full_cancellation_leaves_nothing(name):
    draw = run(Chain(KERNELS[name], LENGTH), law(0.0), START, jax.random.key(0))
    assert np.abs(flat(draw.residual)).max() < 2e-5
    assert np.abs(flat(draw.position) - flat(START)).min(axis=0).max() > 1e-3  # and yet every block moved
    pulled = run(Chain(KERNELS[name], LENGTH), law(1.0), START, jax.random.key(0))
    assert np.abs(flat(pulled.residual)).mean() > 0.1


@pytest.mark.slow
@pytest.mark.slow_for("hmc exact")
@pytest.mark.parametrize("name", ["langevin", "hmc exact"])
def test_what_the_twin_takes_back_is_initial_plus_injected(name):
    """The twin is linear in its start and its noise, given the chain's decisions."""
    draws = {
        mode: run(Chain(KERNELS[name], LENGTH, cancel), law(1.0), START, jax.random.key(3))
        for mode, cancel in MODES.items()
    }
    position = flat(draws["none"].position)
    twins = {mode: position - flat(draw.residual) for mode, draw in draws.items()}
    for draw in draws.values():
        np.testing.assert_allclose(flat(draw.position), position, atol=1e-5)  # the twin never acts on its chain
    assert np.abs(twins["none"]).max() == 0
    assert min(np.abs(twins[mode]).mean() for mode in ("initial", "injected")) > 0.05
    np.testing.assert_allclose(twins["all"], twins["initial"] + twins["injected"], atol=2e-5)
    if name == "hmc exact":
        assert 0.3 < float(draws["all"].acceptance.mean()) < 0.97  # decisions were made


@pytest.mark.slow
def test_rejected_steps_leave_the_twin_where_it_is():
    zero = jax.tree.map(jnp.zeros_like, START)
    for cancel, expected in (
        (Cancellation.ALL, zero),
        (Cancellation.INITIAL, zero),
        (Cancellation.INJECTED, START),
        (Cancellation.NONE, START),
    ):
        draw = run(Chain(KERNELS["hmc exact"], LENGTH, cancel), law(1e8), START, jax.random.key(4))
        assert float(draw.acceptance.max()) == 0  # leapfrogs of this size fly off
        assert eqx.tree_equal(draw.position, START)
        assert eqx.tree_equal(draw.residual, expected)


MEAN, PRECISION, CHAINS = 1.5, 2.5, 20_000
PULLED = TiltedTarget(lambda u: u, ScorePotential(lambda x: (PRECISION - 1) * x - PRECISION * MEAN), log_normal)


def transition(precision, kernel):
    """One transition on N(., 1 / precision): factors on the position less the mean, and on standard normal noise."""
    if isinstance(kernel, Langevin):
        return 1 - kernel.step_size * precision, np.sqrt(2 * kernel.step_size)
    h = kernel.step_size
    kick, drift = np.array([[1, 0], [-h * precision / 2, 1]]), np.array([[1, h], [0, 1]])
    return np.linalg.matrix_power(kick @ drift @ kick, kernel.leapfrogs)[0]


def exact(kernel, cancel):
    """Mean and covariance of (u_K, u_K - nu_K) from u_0 ~ N(0, 1)."""
    (a, b), (a_twin, b_twin) = transition(PRECISION, kernel), transition(1.0, kernel)
    step, noise = np.diag([a, a_twin]), np.array([b, cancel.injected * b_twin])
    start = np.array([1.0, float(cancel.initial)])
    mean, covariance = np.zeros(2), np.outer(start, start)
    for _ in range(LENGTH):
        mean = step @ mean + np.array([(1 - a) * MEAN, 0])
        covariance = step @ covariance @ step.T + np.outer(noise, noise)
    difference = np.array([[1, 0], [1, -1]])
    return difference @ mean, difference @ covariance @ difference.T


LANGEVIN, LONG = Langevin(0.15), HMC(0.3, 3, Unadjusted())


@pytest.mark.parametrize(("kernel", "mode"), [(LANGEVIN, mode) for mode in MODES] + [(LONG, "injected")])
def test_on_a_normal_the_residual_has_its_exact_moments(kernel, mode):
    start = jax.random.normal(jax.random.key(5), (CHAINS,))
    draw = run(Chain(kernel, LENGTH, MODES[mode]), PULLED, start, jax.random.key(6))
    found = np.stack([draw.position, draw.residual]).astype(np.float64)
    mean, covariance = exact(kernel, MODES[mode])
    assert np.all(np.abs(found.mean(1) - mean) < 4 * np.sqrt(covariance.diagonal() / CHAINS))
    variances = covariance.diagonal()
    error = np.sqrt((np.outer(variances, variances) + covariance**2) / CHAINS)
    assert np.all(np.abs(np.cov(found) - covariance) < 4 * error + 1e-9)
    assert jnp.array_equal(draw.acceptance, jnp.ones(CHAINS))


def test_modes_are_what_their_names_say():
    assert Cancellation() == Cancellation.ALL
    assert {(mode.initial, mode.injected) for mode in MODES.values()} == {(a, b) for a in (0, 1) for b in (0, 1)}
    assert (
        Cancellation.INITIAL.initial,
        Cancellation.INITIAL.injected,
        Cancellation.INJECTED.initial,
        Cancellation.INJECTED.injected,
    ) == (True, False, False, True)


@pytest.mark.parametrize("length", [0, -1])
def test_a_chain_has_at_least_one_step(length):
    with pytest.raises(RecipeError, match=f"length={length}"):
        Chain(Langevin(0.1), length)
