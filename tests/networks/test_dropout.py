"""Dropout: nothing without a key, the mean kept with one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import RecipeError
from pplemd.networks import ResidualMLP, UNet
from pplemd.networks.layers import dropout

RATE = 0.3
NETWORKS = {
    "residual mlp": lambda rate: ResidualMLP((4,), width=16, blocks=2, dropout=rate, key=jax.random.key(0)),
    "unet": lambda rate: UNet((4, 4, 1), channels=8, multipliers=(1,), blocks=1, dropout=rate, key=jax.random.key(0)),
}


def moved(network):
    """Away from the start, where the last layer is zero and drops nothing."""
    return jax.tree.map(
        lambda leaf: leaf + 0.05 * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), network
    )


def test_features_are_dropped_at_the_rate_and_the_rest_scaled_up():
    x = jnp.linspace(0.5, 2.0, 20_000)
    kept = np.asarray(dropout(x, RATE, jax.random.key(1)))
    alive = kept != 0
    assert abs(alive.mean() - (1 - RATE)) < 4 * np.sqrt(RATE * (1 - RATE) / x.size)
    np.testing.assert_allclose(kept[alive], np.asarray(x)[alive] / (1 - RATE), rtol=1e-6)
    error = np.asarray(x, np.float64) * np.sqrt(RATE / (1 - RATE))  # standard deviation of each kept feature
    assert abs(kept.mean(dtype=np.float64) - float(x.mean())) < 4 * np.sqrt((error**2).mean() / x.size)


def test_without_a_key_or_a_rate_nothing_is_dropped():
    x = jnp.arange(5.0)
    assert dropout(x, RATE, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x


@pytest.mark.slow
@pytest.mark.slow_for("unet")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_drop_with_a_key_alone(name):
    dropping, plain = moved(NETWORKS[name](RATE)), moved(NETWORKS[name](0.0))
    x, time = jax.random.normal(jax.random.key(2), plain.shape), jnp.asarray(0.3)
    run = jax.jit(lambda key: dropping(x, time, None, key))
    one, same, other = (run(jax.random.key(key)) for key in (3, 3, 4))
    expected = eqx.filter_jit(plain)(x, time)
    assert jnp.array_equal(eqx.filter_jit(dropping)(x, time), expected)
    assert jnp.array_equal(eqx.filter_jit(plain)(x, time, None, jax.random.key(3)), expected)
    assert jnp.array_equal(one, same)
    assert float(jnp.abs(one - other).max()) > 1e-4
    assert float(jnp.abs(one - expected).max()) > 1e-4


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_rate_that_is_no_probability_below_one_is_refused(name, rate):
    with pytest.raises(RecipeError, match="dropout is"):
        NETWORKS[name](rate)
