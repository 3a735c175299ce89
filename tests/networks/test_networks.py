"""One contract for every time-conditioned network, over a table of all of them."""

import functools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pplemd.errors import RecipeError
from pplemd.networks import (
    AbstractNetwork,
    DhariwalUNet,
    LevelKind,
    PixelTransformer,
    ResidualMLP,
    TimedMLP,
    UNet,
    UNet2DModel,
    UNet2DOptions,
    UNetOptions,
)

KEY = jax.random.key(0)
Build = Callable[[int | None], AbstractNetwork]
TABLE: dict[str, Build] = {
    "residual mlp, vector": lambda classes: ResidualMLP((3,), 16, 2, classes=classes, key=KEY),
    "residual mlp, image": lambda classes: ResidualMLP((4, 2, 2), 16, 1, classes=classes, key=KEY),
    "timed mlp, vector": lambda classes: TimedMLP((3,), 16, 2, classes=classes, key=KEY),
    "timed mlp, image": lambda classes: TimedMLP((4, 2, 2), 16, 1, classes=classes, key=KEY),
    "u-net": lambda classes: UNet((2, 4, 3), channels=8, blocks=1, attention=(2,), classes=classes, key=KEY),
    "adm u-net": lambda classes: DhariwalUNet(
        UNetOptions((2, 4, 3), 8, (1,), blocks=1, attention=(2,), classes=classes), key=KEY
    ),
    "diffusers u-net": lambda classes: UNet2DModel(
        UNet2DOptions((2, 4, 3), (8,), (LevelKind(),), (LevelKind(),), blocks=1, groups=2, head=4, classes=classes),
        key=KEY,
    ),
    "pixel transformer": lambda classes: PixelTransformer(
        (2, 4, 3), patch=2, width=16, layers=1, heads=2, classes=classes, key=KEY
    ),
}
everything = pytest.mark.parametrize("name", TABLE)
CLASSES = 3
TIME = jnp.asarray(-0.3)


@functools.cache
def _fresh(name: str) -> AbstractNetwork:
    return TABLE[name](CLASSES)


@functools.cache
def _perturbed(name: str) -> AbstractNetwork:
    """The network with every parameter moved, so that no branch is 0."""
    params, static = eqx.partition(_fresh(name), eqx.is_array)
    leaves, structure = jax.tree.flatten(params)
    draw = np.random.default_rng(5)
    moved = [leaf + jnp.asarray(0.1 * draw.standard_normal(leaf.shape), leaf.dtype) for leaf in leaves]
    return eqx.combine(jax.tree.unflatten(structure, moved), static)


def _input(network: AbstractNetwork) -> jax.Array:
    return jax.random.normal(jax.random.key(9), network.shape)


@eqx.filter_jit
def _batched(network: AbstractNetwork, x: jax.Array, times: jax.Array, labels: jax.Array) -> jax.Array:
    return jax.vmap(network)(x, times, labels)


def _repeated(network: AbstractNetwork) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A batch of one sample, time and label, repeated once more than the sample has entries."""
    count = math.prod(network.shape) + 1
    x = jnp.broadcast_to(_input(network), (count, *network.shape))
    return x, jnp.full(count, TIME), jnp.zeros(count, int)


@pytest.mark.slow_for("u-net", "pixel transformer")
@everything
def test_output_has_the_inputs_shape_and_dtype_and_starts_at_zero(name: str) -> None:
    network = _fresh(name)
    x, times, labels = _repeated(network)
    out = _batched(network, x, times, labels)
    assert out.shape == x.shape
    assert out.dtype == jnp.float32
    assert (out == 0).all()
    assert (_batched(_perturbed(name), x, times, labels) != 0).all()
    half = eqx.filter_eval_shape(network, _input(network).astype(jnp.bfloat16), TIME)
    assert (half.shape, half.dtype) == (network.shape, jnp.bfloat16)


@pytest.mark.slow_for("u-net")
@everything
def test_time_and_label_matter(name: str) -> None:
    x, times, labels = _repeated(_perturbed(name))
    out = _batched(_perturbed(name), x, times.at[1].add(0.1), labels.at[2].set(2).at[3].set(-1))
    for row in (1, 2, 3):
        assert np.abs(out[row] - out[0]).max() > 1e-3, row
    assert np.abs(out[2] - out[3]).max() > 1e-3


@pytest.mark.slow_for("u-net")
@everything
def test_every_entry_of_the_output_sees_every_entry_of_the_input(name: str) -> None:
    x, times, labels = _repeated(_perturbed(name))
    nudges = jnp.eye(x.shape[0] - 1).reshape(-1, *x.shape[1:])
    out = _batched(_perturbed(name), x.at[1:].add(nudges), times, labels)
    assert (np.abs(out[1:] - out[:1]) > 0).mean() > 0.99  # float32 rounds a few small effects to nothing


@pytest.mark.slow_for("u-net")
@everything
def test_vmap_is_the_loop(name: str) -> None:
    network = _perturbed(name)
    x, times, labels = _repeated(network)
    x = x * jnp.linspace(0.5, 2.0, x.shape[0]).reshape(-1, *[1] * len(network.shape))
    times, labels = jnp.linspace(-1.5, 1.0, x.shape[0]), jnp.arange(x.shape[0]) % CLASSES
    batched = _batched(network, x, times, labels)
    single = eqx.filter_jit(network)
    for row in range(3):
        np.testing.assert_allclose(batched[row], single(x[row], times[row], labels[row]), atol=2e-5)


@everything
def test_a_wrong_shape_or_label_is_named(name: str) -> None:
    def call(shape: tuple[int, ...], label: int | None) -> jax.Array:
        return TABLE[name](None)(jnp.zeros(shape), TIME, label)

    shape = _fresh(name).shape
    assert eqx.filter_eval_shape(lambda: call(shape, None)).shape == shape
    with pytest.raises(RecipeError, match="vmap"):
        eqx.filter_eval_shape(lambda: call((2, *shape), None))
    with pytest.raises(RecipeError, match="without classes"):
        eqx.filter_eval_shape(lambda: call(shape, 0))


def _denoising_loss(network: AbstractNetwork, key: jax.Array) -> jax.Array:
    """The error of predicting x from x + sigma eps, where the class fixes the sign of x and sigma is 0.3 or 3."""
    key_label, key_sigma, key_eps = jax.random.split(key, 3)
    column = (32, *[1] * len(network.shape))
    labels = jax.random.randint(key_label, (32,), 0, CLASSES)
    sigmas = jnp.where(jax.random.bernoulli(key_sigma, 0.5, (32,)), 0.3, 3.0)
    eps = jax.random.normal(key_eps, (32 * math.prod(network.shape),)).reshape(32, *network.shape)
    x = jnp.where(labels.reshape(column) > 0, 1.0, -jnp.ones_like(eps))
    x_sigma = (x + sigmas.reshape(column) * eps) / jnp.sqrt(1 + sigmas**2).reshape(column)
    return jnp.mean((jax.vmap(network)(x_sigma, jnp.log(sigmas) / 4, labels) - x) ** 2)


@pytest.mark.slow_for("adm u-net", "diffusers u-net", "u-net", "pixel transformer", "residual mlp, vector")
@everything
def test_it_trains_in_one_trace_and_every_array_is_a_parameter(name: str) -> None:
    network, optimiser = _fresh(name), optax.adam(5e-3)
    slope = eqx.filter_jit(eqx.debug.assert_max_traces(eqx.filter_value_and_grad(_denoising_loss), max_traces=1))
    arrays = jax.tree.leaves_with_path(slope(_perturbed(name), KEY)[1])
    assert len(arrays) == len(jax.tree.leaves(eqx.filter(network, eqx.is_array)))
    for path, gradient in arrays:
        assert gradient.dtype == jnp.float32, path
        assert np.isfinite(gradient).all(), path
        assert (gradient != 0).any(), path

    @eqx.filter_jit
    def update(network: AbstractNetwork, state: optax.OptState, grads: AbstractNetwork) -> tuple:
        updates, state = optimiser.update(grads, state)
        return eqx.apply_updates(network, updates), state

    state, losses = optimiser.init(eqx.filter(network, eqx.is_array)), []
    for key in jax.random.split(KEY, 40):
        loss, grads = slope(network, key)
        losses.append(float(loss))
        with jax.numpy_dtype_promotion("standard"):  # Optax counts steps in int32 and raises a float to them
            network, state = update(network, state, grads)
    np.testing.assert_allclose(losses[0], 1.0, rtol=1e-5)  # the output starts at 0, x is -1 or 1
    assert np.mean(losses[-5:]) < 0.3


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (lambda: ResidualMLP((3,), 0, key=KEY), "width is 0"),
        (lambda: ResidualMLP((3,), 8, 0, key=KEY), "blocks is 0"),
        (lambda: ResidualMLP((3,), 8, classes=0, key=KEY), "classes is 0"),
        (lambda: ResidualMLP((), 8, key=KEY), r"shape is \(\)"),
        (lambda: TimedMLP((3,), 0, key=KEY), "width is 0"),
        (lambda: TimedMLP((3,), 8, 0, key=KEY), "blocks is 0"),
        (lambda: TimedMLP((3,), 8, classes=0, key=KEY), "classes is 0"),
        (lambda: TimedMLP((), 8, key=KEY), r"shape is \(\)"),
        (lambda: UNet((8, 8, 0), key=KEY), r"shape is \(8, 8, 0\)"),
        (lambda: UNet((8, 8), key=KEY), r"shape is \(8, 8\)"),
        (lambda: UNet((9, 8, 1), key=KEY), "divisible by 2"),
        (lambda: UNet((8, 6, 1), multipliers=(1, 2, 2), key=KEY), "divisible by 4"),
        (lambda: UNet((8, 8, 1), channels=0, key=KEY), "channels is 0"),
        (lambda: UNet((8, 8, 1), multipliers=(), key=KEY), "multipliers"),
        (lambda: UNet((8, 8, 1), blocks=0, key=KEY), "blocks is 0"),
        (lambda: UNet((8, 8, 1), attention=(16,), key=KEY), r"some of \(8, 4\)"),
        (lambda: UNet((8, 8, 1), classes=0, key=KEY), "classes is 0"),
        (lambda: PixelTransformer((8, 8, 1), key=KEY), "divisible by the patch"),
        (lambda: PixelTransformer((14, 14), key=KEY), r"shape is \(14, 14\)"),
        (lambda: PixelTransformer((14, 14, 1), width=30, key=KEY), "30 with 4 heads"),
        (lambda: PixelTransformer((14, 14, 1), width=9, heads=3, key=KEY), "even width"),
        (lambda: PixelTransformer((14, 14, 1), layers=0, key=KEY), "layers is 0"),
    ],
)
def test_bad_arguments_are_named(build: Callable[[], AbstractNetwork], found: str) -> None:
    with pytest.raises(RecipeError, match=found):
        build()
