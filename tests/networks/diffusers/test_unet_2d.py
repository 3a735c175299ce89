"""UNet2DModel where the importers' tests do not reach: gradients, dropout, times beyond the table, mistakes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import RecipeError
from pplemd.networks import FourierNoise, LevelKind, TimeKind, UNet2DModel, UNet2DOptions
from pplemd.networks.diffusers.conditioning import StepTable

KEY = jax.random.key(0)
PLAIN, SKIP = LevelKind(), LevelKind(resize=True, skip=True)


def options(**changes) -> UNet2DOptions:
    chosen = {"down": (PLAIN, PLAIN), "up": (PLAIN, PLAIN), "blocks": 1, "groups": 4, "head": 4, "classes": 3}
    return UNet2DOptions((4, 4, 3), (8, 8), **{**chosen, **changes})


def moved(network):
    """The network with every parameter moved, so that no branch is 0."""
    draw = np.random.default_rng(5)
    return jax.tree.map(
        lambda leaf: (
            leaf + jnp.asarray(0.1 * draw.standard_normal(leaf.shape), leaf.dtype) if eqx.is_array(leaf) else leaf
        ),
        network,
    )


@pytest.mark.slow
def test_every_parameter_learns_in_levels_with_a_skip_computed_again() -> None:
    """But the biases of keys, which the softmax takes out."""
    noise = FourierNoise(tuple(np.linspace(0.1, 1.0, 8).tolist()))
    levels = {"down": (SKIP, SKIP), "up": (SKIP, SKIP), "groups": None, "rematerialise": True}
    chosen = options(**levels, time=TimeKind.FOURIER, frequencies=noise)
    network = moved(UNet2DModel(chosen, key=KEY))
    x = jax.random.normal(jax.random.key(1), (4, 4, 3))

    def loss(network):
        return jnp.mean(network(x, jnp.asarray(0.4), jnp.asarray(1)) ** 2)

    for path, leaf in jax.tree.leaves_with_path(eqx.filter_jit(eqx.filter_grad(loss))(network)):
        assert np.isfinite(leaf).all(), path
        assert (leaf != 0).any() or ".key.bias" in jax.tree_util.keystr(path), path


@pytest.mark.slow
def test_dropout_needs_a_key() -> None:
    network = moved(UNet2DModel(options(dropout=0.5), key=KEY))
    run = eqx.filter_jit(lambda key: network(jnp.ones((4, 4, 3)), jnp.asarray(3.0), None, key))
    np.testing.assert_array_equal(run(None), run(None))
    assert np.abs(run(jax.random.key(1)) - run(jax.random.key(2))).max() > 1e-3


def test_a_table_takes_the_nearest_time() -> None:
    table = StepTable(5, 4, key=KEY)
    for time, row in ((0.4, 0), (2.6, 3), (-3.0, 0), (99.0, 4)):
        np.testing.assert_array_equal(table(jnp.asarray(time)), table.rows[row])


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"blocks": 0}, "blocks is 0"),
        ({"classes": 0}, "classes is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"up": (PLAIN,)}, "as many of each"),
        ({"down": (PLAIN, SKIP), "up": (SKIP, PLAIN)}, "at the last ones on the way out"),
        ({"middle_scale": 0.0}, "middle_scale is 0.0"),
        ({"activation": "elu"}, "activation is 'elu'"),
        ({"compute": jnp.int32}, "expected a floating-point type"),
        ({"out_channels": 2}, "out_channels is 2 for images of 3 channels"),
        ({"time": TimeKind.LEARNED}, "needs the number of time steps"),
        ({"time_shift": 4.0}, "shifted by 4.0"),
        ({"time": TimeKind.FOURIER, "frequencies": FourierNoise((1.0,))}, "1 frequencies; expected 8"),
        ({"groups": 3}, "normed in 3 groups"),
        ({"head": 9}, "heads of 9 features for 8 channels"),
    ],
)
def test_bad_options_are_named(changes: dict, found: str) -> None:
    def run() -> jax.Array:
        return UNet2DModel(options(**changes), key=KEY)(jnp.zeros((4, 4, 3)), jnp.asarray(1.0))

    with pytest.raises(RecipeError, match=found):
        eqx.filter_eval_shape(run)
