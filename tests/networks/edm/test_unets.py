"""Members of EDM's families that no recorded values cover: NCSN++, half precision, recomputed blocks, mistakes."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import RecipeError
from pplemd.networks import DhariwalUNet, FourierNoise, Side, SongUNet, SongVariant, UNetOptions
from pplemd.networks.edm.layers import Encoder, song_style
from pplemd.networks.layers import downsampled

KEY = jax.random.key(0)
TAPS = (1, 3, 3, 1)
BOTH = SongVariant(FourierNoise(), 2, Side.RESIDUAL, Side.SKIP, TAPS)


def options(**changes) -> UNetOptions:
    chosen = {"channels": 8, "multipliers": (1, 1), "blocks": 1, "attention": (2,), "classes": 3, "augment": 2}
    return UNetOptions((4, 4, 3), **{**chosen, **changes})


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
def test_every_parameter_learns_with_every_side_and_blocks_computed_again() -> None:
    """And the gradient is what the loss does when the parameters move along it."""
    x, augment = jax.random.normal(jax.random.key(1), (4, 4, 3)), jnp.array([0.5, -1.0])

    def loss(network):
        return jnp.mean(network(x, jnp.asarray(0.2), jnp.asarray(1), None, augment) ** 2)

    network = moved(SongUNet(options(rematerialise=True), BOTH, key=KEY))
    slope = eqx.filter_jit(eqx.filter_grad(loss))(network)
    for path, leaf in jax.tree.leaves_with_path(slope):
        assert np.isfinite(leaf).all(), path
        assert (leaf != 0).any(), path
    size = float(np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(slope))))
    step, run = 1e-2 / size, eqx.filter_jit(loss)
    ends = [
        run(eqx.apply_updates(network, jax.tree.map(lambda g, s=sign: s * step * g, slope))) for sign in (1.0, -1.0)
    ]
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step * size), size, rtol=0.02)


@pytest.mark.parametrize("side", [Side.SKIP, Side.RESIDUAL])
def test_sides_on_the_way_in(side: Side) -> None:
    """With blocks that do nothing, what a level starts with is known."""
    encoder = Encoder(options(), song_style(TAPS), side, key=KEY)
    x = jax.random.normal(jax.random.key(2), (4, 4, 3))
    skips = encoder(x, lambda block, image: downsampled(image, TAPS) if block is encoder.levels[1].down else image)
    first = encoder.first(x)
    assert len(skips) == 4
    np.testing.assert_array_equal(skips[1], first)
    level = encoder.levels[1].side
    if side is Side.SKIP:
        expected = downsampled(first, TAPS) + level(downsampled(x, TAPS))
    else:  # the convolution sees one more pixel of zeros around the image, and is filtered without padding
        wide = jnp.pad(x, ((2, 2), (2, 2), (0, 0)))
        image = jax.lax.conv_general_dilated(
            wide[None], level.weight, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[0]
        weights = np.outer(TAPS, TAPS) / 64
        filtered = [
            [(weights[..., None] * np.asarray(image[2 * i : 2 * i + 4, 2 * j : 2 * j + 4])).sum((0, 1)) for j in (0, 1)]
            for i in (0, 1)
        ]
        expected = (downsampled(first, TAPS) + np.asarray(filtered)) / np.sqrt(2)
    np.testing.assert_allclose(skips[2], expected, atol=2e-6)


@pytest.mark.slow
def test_half_precision_costs_a_percent_and_keeps_the_inputs_type() -> None:
    x = jax.random.normal(jax.random.key(1), (4, 4, 3))
    wide, narrow = (
        eqx.filter_jit(moved(DhariwalUNet(options(compute=compute), key=KEY)))(x, jnp.asarray(0.2), jnp.asarray(1))
        for compute in (None, jnp.bfloat16)
    )
    assert narrow.dtype == jnp.float32
    error = float(jnp.sqrt(jnp.mean((wide - narrow) ** 2) / jnp.mean(wide**2)))
    assert 1e-5 < error < 0.03  # bfloat16 rounds by 0.004, some twenty times over


@pytest.mark.parametrize("build", [SongUNet, DhariwalUNet])
def test_shapes_of_other_configurations(build: Callable) -> None:
    """Abstractly: images that are not square, one level, five channels, more channels out than in."""
    for changes in ({"shape": (8, 12, 5)}, {"multipliers": (3,)}, {"out_channels": 6}, {"channels": 12, "blocks": 2}):
        sizes = UNetOptions(**{"shape": (4, 4, 3), "channels": 8, "multipliers": (1, 2), "blocks": 1, **changes})
        x = jnp.zeros(sizes.shape)
        assert eqx.filter_eval_shape(lambda k, s=sizes, x=x: build(s, key=k)(x, 0.1), KEY).shape == sizes.shape


def test_augmentations_are_checked() -> None:
    network = DhariwalUNet(options(augment=None), key=KEY)
    with pytest.raises(RecipeError, match="augment=None"):
        network(jnp.zeros((4, 4, 3)), 0.1, augment=jnp.zeros(2))
    with pytest.raises(RecipeError, match="augment=2"):
        SongUNet(options(), key=KEY)(jnp.zeros((4, 4, 3)), 0.1, augment=jnp.zeros(3))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"multipliers": (1, 1, 1, 1)}, "divisible by 8"),
        ({"multipliers": ()}, "multipliers"),
        ({"channels": 33 * 2}, "multiple of 16"),
        ({"channels": 2}, "even number of 4"),
        ({"blocks": 0}, "blocks is 0"),
        ({"classes": 0}, "classes is 0"),
        ({"dropout": 1.0}, "dropout is"),
        ({"label_dropout": -0.1}, "dropout is"),
        ({"out_channels": 2}, "as many or more"),
        ({"compute": jnp.int32}, "floating-point type"),
    ],
)
@pytest.mark.parametrize("build", [SongUNet, DhariwalUNet])
def test_mistakes_are_named(build: Callable, changes: dict, found: str) -> None:
    with pytest.raises(RecipeError, match=found):
        eqx.filter_eval_shape(lambda: build(options(**changes), key=KEY))


def test_mistakes_of_variants_are_named() -> None:
    for variant, found in (
        (SongVariant(taps=(1, 2, 1)), "resampling filter"),
        (SongVariant(decoder=Side.RESIDUAL), "STANDARD or SKIP"),
        (SongVariant(noise_multiplier=0), "noise_multiplier is 0"),
    ):
        with pytest.raises(RecipeError, match=found):
            eqx.filter_eval_shape(lambda variant=variant: SongUNet(options(), variant, key=KEY))
    with pytest.raises(RecipeError, match="3 heads"):
        eqx.filter_eval_shape(lambda: DhariwalUNet(options(channels=224), key=KEY))
