"""What is particular to the timed MLP."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.networks import AbstractNetwork, ResidualMLP, TimedMLP
from pplemd.networks.layers import Linear

KEY = jax.random.key(0)


def _length_effect(network: AbstractNetwork) -> float:
    """How much the output changes when x is made ten times longer, in units of the output; biases are 0."""
    last = Linear(network.last.weight.shape[0], 2, key=jax.random.key(1))  # the one that is drawn is 0
    network = eqx.tree_at(lambda n: n.last, network, last)
    x = 3.0 * jax.random.normal(jax.random.key(2), (64, 2))
    run = jax.vmap(lambda point: network(point, 0.1))
    short, long = run(x), run(10.0 * x)
    return float(jnp.sqrt(jnp.mean((long - short) ** 2) / jnp.mean(short**2)))


@pytest.mark.slow
def test_it_sees_the_length_of_x_from_the_start() -> None:
    assert _length_effect(TimedMLP((2,), 64, 3, key=KEY)) > 1.0
    assert _length_effect(ResidualMLP((2,), 64, 3, key=KEY)) < 0.01  # why this network exists


@pytest.mark.slow_for("1")
@pytest.mark.parametrize("blocks", [1, 3, 12])
def test_the_hidden_scale_does_not_depend_on_the_number_of_blocks(blocks: int) -> None:
    network = TimedMLP((8,), 256, blocks, key=KEY)
    network = eqx.tree_at(lambda n: n.last, network, Linear(256, 8, key=jax.random.key(1)))
    x = jax.random.normal(jax.random.key(2), (256, 8))
    out = jax.vmap(lambda point: network(point, 0.1))(x)
    assert 0.5 < float(jnp.sqrt(jnp.mean(out**2))) < 2.0


def test_parameter_count() -> None:
    network = TimedMLP((2,), 128, 3, classes=5, key=KEY)
    count = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array)))
    assert count == 3 * 128 + 65 * 128 + 3 * 129 * 128 + 129 * 2 + 5 * 128
    np.testing.assert_array_equal(network(jnp.ones(2), 0.1, 1), np.zeros(2))
