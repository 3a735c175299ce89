"""Classifiers by their definitions: what they see, their convolutions, their shortcuts."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.networks.classifiers import LeNet, ResNet, View
from pplemd.networks.classifiers.lenet import halved
from pplemd.networks.classifiers.resnet import FLOOR, Block, NormedConv

RNG = np.random.default_rng(0)


def image(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.uniform(-1, 1, shape), jnp.float32)


def test_a_view_is_standardised_channel_by_channel():
    x, view = image(6, 6, 3), View(6, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    expected = ((np.asarray(x) + 1) / 2 - np.array([[[0.1, 0.2, 0.3]]])) / np.array([[[0.5, 0.6, 0.7]]])
    np.testing.assert_allclose(view(x), expected, rtol=1e-5, atol=1e-6)


def test_a_view_is_enlarged_between_the_centres_of_pixels():
    """A ramp stays a ramp: pixel j of n has its centre at (j + 1/2) / n; beyond the outermost centres it is held."""
    ramp = (jnp.arange(4.0) + 0.5) / 4
    x = jnp.broadcast_to(2 * ramp[None, :, None] - 1, (4, 4, 1))
    found = View(8, (0.0,), (1.0,))(x)[:, :, 0]
    centres = np.clip((np.arange(8) + 0.5) / 8, 0.5 / 4, 3.5 / 4)
    np.testing.assert_allclose(found, np.tile(centres, (8, 1)), atol=1e-6)


def test_another_number_of_channels_is_refused():
    network = LeNet(key=jax.random.key(0))
    with pytest.raises(DataError, match=r"images of shape \(8, 8, 3\), expected 1 channel,"):
        network.features(image(8, 8, 3))


@pytest.mark.parametrize("network", [LeNet(key=jax.random.key(0)), ResNet((1, 1, 1), key=jax.random.key(0))])
def test_features_and_logits_of_any_size_of_image(network):
    channels = len(network.view.mean)
    width, classes = network.last.weight.shape
    for side in (8, 32):
        features = eqx.filter_jit(network.features)(image(side, side, channels))
        assert features.shape == (width,)
        assert network.logits(features).shape == (classes,)


def test_halved_takes_the_largest():
    found = halved(jnp.arange(16.0).reshape(4, 4, 1))
    np.testing.assert_array_equal(found[:, :, 0], [[5, 7], [13, 15]])


@pytest.mark.parametrize("stride", [1, 2])
def test_a_normed_convolution_is_its_sum(stride):
    conv = NormedConv(2, 3, key=jax.random.key(1))
    moments = [jnp.asarray(RNG.uniform(0.5, 2, 3), jnp.float32) for _ in range(4)]
    conv = eqx.tree_at(lambda c: (c.scale, c.shift, c.mean, c.variance), conv, moments)
    x = image(6, 6, 2)
    padded = np.pad(np.asarray(x), ((1, 1), (1, 1), (0, 0)))
    found = conv(x, stride)
    assert found.shape == (6 // stride, 6 // stride, 3)
    for i, j in ((0, 0), (1, 2), (found.shape[0] - 1, found.shape[1] - 1)):
        patch = padded[stride * i : stride * i + 3, stride * j : stride * j + 3]
        plain = np.einsum("hwi,hwio->o", patch, np.asarray(conv.weight))
        scale, shift, mean, variance = (np.asarray(one) for one in moments)
        np.testing.assert_allclose(found[i, j], (plain - mean) / np.sqrt(variance + FLOOR) * scale + shift, atol=1e-5)


def test_a_shortcut_skips_pixels_and_pads_channels():
    block = Block(4, 8, key=jax.random.key(2))
    block = eqx.tree_at(lambda b: b.second.scale, block, jnp.zeros(8))  # the branch is nothing
    x = image(4, 4, 4)
    expected = np.zeros((2, 2, 8))
    expected[:, :, 2:6] = np.maximum(np.asarray(x)[::2, ::2], 0)
    np.testing.assert_allclose(block(x), expected, atol=1e-6)
