"""Updates, averages and guards of a module under training."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pplemd.learning import Adam, Optax
from pplemd.learning.optimisers import norm
from pplemd.learning.state import Learner, average, copied, descend, learner, warmed


class Thing(eqx.Module):
    """Parameters, a count that is no parameter, a function."""

    weight: jax.Array
    bias: jax.Array
    count: jax.Array
    act: object = eqx.field(static=True, default=jnp.tanh)


THING = Thing(jnp.array([[1.0, -2.0]]), jnp.array([0.5]), jnp.asarray(7))


def gradient(scale):
    return eqx.filter(
        Thing(scale * jnp.array([[0.3, 0.1]]), scale * jnp.array([-2.0]), THING.count), eqx.is_inexact_array
    )


@pytest.mark.parametrize(
    ("optimiser", "plain"),
    [
        (Optax(optax.sgd(0.1, momentum=0.9)), optax.sgd(0.1, momentum=0.9)),
        (Adam(0.01, b1=0.5, b2=0.8, clip=0.0), optax.adam(0.01, b1=0.5, b2=0.8)),
        (Adam(0.01, b1=0.0, b2=0.8, clip=0.0), optax.adam(0.01, b1=0.0, b2=0.8)),
        (Adam(0.01, clip=1.0), optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01, b1=0.9, b2=0.99))),
    ],
    ids=["sgd", "adam", "no first moment", "clipped"],
)
def test_descend_is_a_step_of_optax(optimiser, plain):
    current = learner(THING, optimiser.transformation(10))
    parameters = eqx.filter(THING, eqx.is_inexact_array)
    memory = plain.init(parameters)
    for scale in (1.0, 0.2, -0.7):
        current = descend(current, gradient(scale), optimiser.transformation(10))
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = plain.update(gradient(scale), memory, parameters)
        parameters = optax.apply_updates(parameters, updates)
    np.testing.assert_allclose(current.module.weight, parameters.weight, rtol=1e-6)
    np.testing.assert_allclose(current.module.bias, parameters.bias, rtol=1e-6)
    assert int(current.module.count) == 7
    assert float(current.module.bias[0]) > 0.5  # against a negative gradient


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_an_update_that_is_not_finite_is_skipped_and_counted(bad):
    optimiser = Adam(0.01, warmup=5).transformation(10)
    before = descend(learner(THING, optimiser), gradient(1.0), optimiser)
    poisoned = eqx.tree_at(lambda g: g.bias, gradient(1.0), jnp.array([bad]))
    after = before
    for skipped in (1, 2):
        after = descend(after, poisoned, optimiser)
        assert (int(after.skipped), int(after.skipped_in_a_row)) == (skipped, skipped)
    assert eqx.tree_equal(after.module, before.module)
    zero = jax.tree.map(jnp.zeros_like, gradient(1.0))
    still = descend(descend(before, zero, optimiser), zero, optimiser)  # what the optimiser's memory sees
    assert eqx.tree_equal(after.memory, still.memory)
    good = descend(after, gradient(1.0), optimiser)
    assert (int(good.skipped), int(good.skipped_in_a_row)) == (2, 0)
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(eqx.filter(good, eqx.is_inexact_array)))
    assert not eqx.tree_equal(good.module, before.module)


def test_many_skips_never_let_a_bad_update_through():
    optimiser = Adam(0.01).transformation(10)
    poisoned = eqx.tree_at(lambda g: g.bias, gradient(1.0), jnp.array([jnp.nan]))
    step = eqx.filter_jit(lambda current: descend(current, poisoned, optimiser))
    current: Learner = learner(THING, optimiser)
    for _ in range(50):
        current = step(current)
    assert eqx.tree_equal(current.module, THING)
    assert int(current.skipped_in_a_row) == 50


def test_average_is_the_exponential_one():
    values = [1.0, 3.0, -2.0, 0.5]
    kept = jax.tree.map(lambda leaf: leaf, THING)
    for value in values:
        kept = average(kept, Thing(jnp.full((1, 2), value), jnp.full(1, -value), jnp.asarray(int(value))), 0.8)
    weights = 0.2 * 0.8 ** np.arange(3, -1, -1)
    expected = 0.8**4 * np.array([[1.0, -2.0]]) + weights @ values
    np.testing.assert_allclose(kept.weight, expected, rtol=1e-6)
    np.testing.assert_allclose(kept.bias, [0.8**4 * 0.5 - weights @ values], rtol=1e-5)
    assert int(kept.count) == 0  # what is no parameter is the newest


@pytest.mark.parametrize(("step", "expected"), [(0, 0.1), (8, 0.5), (89, 90 / 99), (10_000, 0.99)])
def test_the_average_forgets_fast_at_the_start(step, expected):
    np.testing.assert_allclose(warmed(0.99, jnp.asarray(step)), expected, rtol=1e-6)


def test_what_is_trained_shares_no_buffer_with_what_was_given():
    donate = eqx.filter_jit(lambda tree: jax.tree.map(jnp.copy, tree), donate="all")
    given = copied(THING)
    donate(learner(given, Optax(optax.sgd(0.1)).transformation(1)))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(given))
    assert eqx.tree_equal(given, THING)


def test_a_copy_is_of_no_weak_type():
    """A Python number's array is weakly typed, and its update is not: the step would be compiled twice."""
    weak = Thing(jnp.asarray(1.0), jnp.exp(jnp.asarray(0.0)), THING.count)
    assert weak.weight.weak_type
    own = copied(weak)
    assert not own.weight.weak_type
    assert not own.bias.weak_type
    assert own.weight.unsafe_buffer_pointer() != weak.weight.unsafe_buffer_pointer()


def test_a_gradient_s_norm_is_that_of_all_its_numbers():
    tree = {
        "scalar": jnp.asarray(3.0),
        "one": jnp.full(1, -4.0),
        "vector": jnp.arange(40.0),
        "matrix": jnp.ones((5, 7)),
    }
    for some in (tree, {"matrix": tree["matrix"]}, {"vector": tree["vector"]}, {"scalar": tree["scalar"]}):
        np.testing.assert_allclose(norm(some), optax.tree.norm(some), rtol=1e-6)
    assert norm({}) == 0
    assert not jnp.isfinite(norm({**tree, "one": jnp.full(1, jnp.nan)}))
