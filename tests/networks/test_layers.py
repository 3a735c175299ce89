"""The layers against direct computations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate

from pplemd.networks.layers import Conv, GroupNorm, LayerNorm, Linear, layer_norm


def test_linear_keeps_unit_variance_and_acts_on_the_last_axis() -> None:
    layer = Linear(256, 300, key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 4, 256))
    out = layer(x)
    assert out.shape == (2, 4, 300)
    np.testing.assert_allclose(out.std(), 1.0, atol=0.08)  # 4 s.e. of 8 inputs, each of s.d. 1 / sqrt(2 * 256)
    np.testing.assert_allclose(out[1, 2], layer(x[1, 2]), atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_convolution_is_a_zero_padded_correlation(size: int) -> None:
    layer = Conv(2, 3, size, key=jax.random.key(0))
    image = jax.random.normal(jax.random.key(1), (6, 4, 2))
    weight = np.asarray(layer.weight)
    out = layer(image)
    for channel in range(3):
        expected = sum(correlate(np.asarray(image)[..., i], weight[..., i, channel], "same") for i in range(2))
        np.testing.assert_allclose(out[..., channel], expected, atol=1e-5)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 1), (8, 2), (20, 5), (64, 16), (256, 32)])
def test_group_norm_standardises_each_group_of_each_image(channels: int, groups: int) -> None:
    layer = GroupNorm(channels)
    assert layer.groups == groups
    image = 5 + 3 * jax.random.normal(jax.random.key(0), (8, 8, channels))
    out = np.asarray(layer(image)).reshape(8, 8, groups, -1)
    np.testing.assert_allclose(out.mean((0, 1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(out.std((0, 1, 3)), 1, atol=1e-4)


@pytest.mark.slow
def test_layer_norm_standardises_and_is_finite_on_a_constant() -> None:
    out = layer_norm(5 + 3 * jax.random.normal(jax.random.key(0), (100,)))
    np.testing.assert_allclose([out.mean(), out.std()], [0, 1], atol=1e-5)
    assert np.isfinite(jax.grad(lambda x: layer_norm(x).sum())(jnp.ones(4))).all()


def test_layer_norm_with_parameters_treats_every_point_alone() -> None:
    layer = eqx.tree_at(
        lambda norm: (norm.scale, norm.shift), LayerNorm(3), (jnp.array([2.0, 1, -1]), jnp.array([0.0, 5, 1]))
    )
    points = jnp.array([[1.0, 2, 3], [-60, 0, 60]])
    edge = np.sqrt(1.5)
    np.testing.assert_allclose(layer(points), [[-2 * edge, 5, 1 - edge]] * 2, atol=1e-4)
    np.testing.assert_array_equal(LayerNorm(3)(points), jax.vmap(layer_norm)(points))
