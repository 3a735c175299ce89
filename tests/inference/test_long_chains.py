"""Long chains that warm themselves up: the scales they find, what they count, and what they refuse."""

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
    Langevin,
    Potential,
    ScorePotential,
    TiltedTarget,
    Unadjusted,
    barkers,
    gauss_legendre,
    long_chains,
    mala,
    simpson,
)

SCALES = {"a": np.array([1.0, 9.0]), "b": np.array(3.0)}
CHAINS = 16


def squares(x):
    return 0.5 * (jnp.sum((x[:2] / jnp.asarray([1.0, 9.0])) ** 2) + (x[2] / 3.0) ** 2)


def log_normal(u):
    return -0.5 * sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(u))


def joined(u):
    return jnp.append(u["a"], u["b"])


UNEQUAL = TiltedTarget(joined, Potential(lambda x: squares(x) - 0.5 * jnp.sum(x**2)), log_normal)  # N(0, scale^2)
SCORED = TiltedTarget(joined, ScorePotential(jax.grad(UNEQUAL.potential.value)), log_normal)
STARTS = {
    "a": jax.random.normal(jax.random.key(1), (CHAINS, 2)),
    "b": jax.random.normal(jax.random.key(2), (CHAINS,)),
}


@eqx.filter_jit
def run(kernel, target, warm_up, draws, seed=0, starts=STARTS):
    return long_chains(jax.random.key(seed), target, kernel, starts, warm_up, draws)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [mala(), HMC(None, 3)], ids=["mala", "hmc"])
def test_warm_up_finds_the_scales(kernel):
    found = run(kernel, UNEQUAL, 400, 200)
    sizes = np.column_stack([found.step_size["a"], found.step_size["b"]])
    ratios = np.exp(np.log(sizes[:, 1:] / sizes[:, :1]).mean(axis=0))
    np.testing.assert_allclose(ratios, [9.0, 3.0], rtol=0.25)  # of few dependent draws
    assert kernel.wanted_acceptance - 0.1 < float(found.acceptance.mean()) < 0.97
    assert 3 * found.positions["a"][..., 0].std() < found.positions["a"][..., 1].std()


@pytest.mark.slow
def test_shapes_and_the_count_of_gradients():
    kernels = {mala(0.5): 1, HMC(0.5, 3): 3, Langevin(0.1): 1, barkers(0.5): 3, MCLMC(0.1): 1}
    for kernel, each in kernels.items():
        found = run(kernel, UNEQUAL, 5, 7)
        assert found.positions["a"].shape == (CHAINS, 7, 2)
        assert found.positions["b"].shape == (CHAINS, 7)
        for leaf in (found.acceptance, found.diverging, found.energy):
            assert leaf.shape == (CHAINS, 7)
        np.testing.assert_array_equal(found.gradients, np.full(CHAINS, 7 * each))
    for kernel, each in {HMC(0.5, 3, simpson()): 6, mala(0.5, gauss_legendre(3)): 4, mala(0.5): 4}.items():
        np.testing.assert_array_equal(run(kernel, SCORED, 5, 7).gradients, 7 * each)


@pytest.mark.slow
def test_nuts_counts_the_leapfrogs_that_it_took():
    short, long = (run(NUTS(step, 4), UNEQUAL, 5, 20) for step in (1.0, 0.05))
    assert np.all(np.asarray(long.gradients) == 20 * 15)  # never turns: 2^4 - 1 leapfrogs
    assert np.all((np.asarray(short.gradients) >= 20) & (np.asarray(short.gradients) < 20 * 15))


@pytest.mark.slow
def test_a_step_size_that_is_given_is_kept():
    given = {"a": jnp.asarray(0.3), "b": jnp.asarray(0.2)}
    found = run(HMC(given, 2), UNEQUAL, 50, 5)
    np.testing.assert_array_equal(found.step_size["a"], jnp.full(CHAINS, 0.3))
    np.testing.assert_array_equal(found.step_size["b"], jnp.full(CHAINS, 0.2))


@pytest.mark.slow
def test_chains_differ_and_a_key_is_a_run():
    same = jax.tree.map(jnp.zeros_like, STARTS)
    one, again, other = (run(mala(0.5), UNEQUAL, 5, 5, jnp.asarray(seed), same) for seed in (0, 0, 1))
    assert eqx.tree_equal(one, again)
    assert not eqx.tree_equal(one.positions, other.positions)
    assert len(np.unique(one.positions["b"][:, -1])) == CHAINS


@pytest.mark.parametrize("kernel", [mala(), NUTS(), barkers(), MCLMC()], ids=["mala", "nuts", "barkers", "mclmc"])
def test_no_step_size_and_no_time_to_find_one(kernel):
    with pytest.raises(RecipeError, match="no step size and cannot find one in 19 warm-up steps"):
        long_chains(jax.random.key(0), UNEQUAL, kernel, STARTS, 19, 5)


def test_a_kernel_that_says_nothing_of_acceptance_needs_a_step_size():
    with pytest.raises(RecipeError, match="Langevin has no step size"):
        long_chains(jax.random.key(0), UNEQUAL, Langevin(None), STARTS, 100, 5)


def test_unadjusted_kernels_take_the_step_they_are_given():
    found = run(HMC(0.5, 2, Unadjusted()), UNEQUAL, 20, 10)
    np.testing.assert_array_equal(found.acceptance, 1.0)
    assert not found.diverging.any()


def test_unadjusted_steps_are_not_found_by_what_they_accept():
    """Everything is accepted: an adaptation could only lengthen them."""
    with pytest.raises(RecipeError, match="HMC has no step size"):
        long_chains(jax.random.key(0), UNEQUAL, HMC(correction=Unadjusted()), STARTS, 100, 5)
    with pytest.raises(RecipeError, match="NUTS draws from its trajectory by the energies"):
        NUTS(correction=Unadjusted())
