"""What is particular to the U-Net: its blocks, its sizes, its resampling."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.networks import UNet
from pplemd.networks.unet import _double, _halve


def _plan(shape: tuple[int, ...], **options: object) -> UNet:
    """The network with shapes in place of arrays."""
    return eqx.filter_eval_shape(lambda key: UNet(shape, **options, key=key), jax.random.key(0))


def test_parameter_count_follows_from_the_plan() -> None:
    c, width = 16, 64
    plan = [(c, c), (c, c), (c, 2 * c), (2 * c, 2 * c)]  # down
    plan += [(2 * c, 2 * c), (2 * c, 2 * c)]  # middle
    plan += [(4 * c, 2 * c), (4 * c, 2 * c), (3 * c, 2 * c), (3 * c, c), (2 * c, c), (2 * c, c)]  # up, with skips
    expected = (64 + 1) * width + (9 * 3 + 1) * c + 2 * c + (9 * c + 1) * 3  # time, first, norm, last
    expected += 2 * 2 * c + (2 * c + 1) * 6 * c + (2 * c + 1) * 2 * c  # attention in the middle
    for size, out in plan:
        expected += 2 * size + (9 * size + 1) * out + (width + 1) * 2 * out + 2 * out + (9 * out + 1) * out
        expected += (size + 1) * out if size != out else 0
    assert sum(leaf.size for leaf in jax.tree.leaves(_plan((8, 8, 3), channels=c))) == expected


@pytest.mark.parametrize(
    ("shape", "multipliers", "attention"),
    [
        ((8, 8, 1), (1, 2), (8,)),
        ((32, 32, 3), (1, 2, 2), (16, 8)),
        ((16, 24, 5), (2, 1, 3, 1), ()),
        ((5, 7, 2), (1,), ()),
    ],
)
def test_shapes(shape: tuple[int, ...], multipliers: tuple[int, ...], attention: tuple[int, ...]) -> None:
    build = lambda key: UNet(shape, channels=8, multipliers=multipliers, attention=attention, key=key)  # noqa: E731
    out = eqx.filter_eval_shape(lambda key: build(key)(jnp.zeros(shape), jnp.asarray(0.0)), jax.random.key(0))
    assert out.shape == shape
    assert out.dtype == jnp.float32


def test_attention_is_where_it_is_asked_for() -> None:
    network = _plan((8, 8, 1), channels=8, attention=(8,))
    here = [[block.attention is not None for block in level] for level in (*network.down, network.middle, *network.up)]
    assert here == [[True, True], [False, False], [True, False], [False, False, False], [True, True, True]]


def test_halving_averages_and_doubling_repeats() -> None:
    image = jnp.arange(2 * 4 * 2, dtype=float).reshape(2, 4, 2)
    np.testing.assert_allclose(_halve(image)[0, 1, 0], (4 + 6 + 12 + 14) / 4)
    np.testing.assert_array_equal(_double(image), np.repeat(np.repeat(image, 2, 0), 2, 1))
    np.testing.assert_allclose(_halve(_double(image)), image)
