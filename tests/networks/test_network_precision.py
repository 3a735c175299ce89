"""How networks are computed: every Computing of a tree is found, weights are narrowed, blocks are computed again."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.networks import (
    DhariwalUNet,
    LevelKind,
    NetworkPrecision,
    PixelTransformer,
    ResidualMLP,
    SongUNet,
    TimedMLP,
    UNet2DModel,
    UNet2DOptions,
    UNetOptions,
    narrowed,
    with_precision,
)
from pplemd.networks.layers import attend
from pplemd.teachers import Denoiser, GaussianMixture, Guidance, Guided, one_step

KEY = jax.random.key(0)
OPTIONS = UNetOptions((4, 4, 3), 8, (1, 1), blocks=1, attention=(2,), classes=3)
HALF = NetworkPrecision(jnp.bfloat16, rematerialise=True)


LEVELS = (LevelKind(), LevelKind())
BUILT = {
    ResidualMLP: lambda: ResidualMLP((4, 4, 3), 8, 2, classes=3, key=KEY),
    TimedMLP: lambda: TimedMLP((4, 4, 3), 8, 2, classes=3, key=KEY),
    PixelTransformer: lambda: PixelTransformer((4, 4, 3), patch=2, width=8, layers=1, heads=2, classes=3, key=KEY),
    UNet2DModel: lambda: UNet2DModel(
        UNet2DOptions((4, 4, 3), (8, 8), LEVELS, LEVELS, blocks=1, groups=4, head=4, classes=3), key=KEY
    ),
}


def build(kind):
    return BUILT[kind]() if kind in BUILT else kind(OPTIONS, key=KEY)


def checkpoints(function, *inputs) -> list[int]:
    """Equations inside each recomputed part of a gradient's trace."""

    def counted(trace):
        for equation in trace.eqns:
            inside = equation.params.get("jaxpr")
            if equation.primitive.name in ("checkpoint", "remat", "remat2"):
                yield len(inside.eqns)
            elif equation.primitive.name in ("jit", "pjit"):
                yield from counted(inside.jaxpr)

    return list(counted(jax.make_jaxpr(function)(*inputs).jaxpr))


@pytest.mark.slow
def test_every_one_is_found_wherever_it_is():
    guided = Guided(Denoiser(build(DhariwalUNet), 0.5), Guidance(2.0))
    found = with_precision({"teacher": guided, "student": one_step(guided, 1.0)}, HALF)
    for denoiser in (found["teacher"].denoiser, found["student"].denoiser):
        assert denoiser.precision == denoiser.network.trunk.precision == HALF
    shapes = with_precision(eqx.filter_eval_shape(lambda: guided), HALF)
    assert shapes.denoiser.network.trunk.precision == HALF
    assert guided.denoiser.precision == NetworkPrecision(None, False)


@pytest.mark.slow_for("SongUNet-10")
@pytest.mark.parametrize(("kind", "parts"), [(DhariwalUNet, 10), (SongUNet, 10), (ResidualMLP, 1)])
def test_blocks_are_computed_again_or_the_network_where_it_has_none(kind, parts):
    denoiser = with_precision(Denoiser(build(kind), 0.5), NetworkPrecision(rematerialise=True))
    params, static = eqx.partition(denoiser, eqx.is_array)

    def loss(params, x):
        return jnp.sum(eqx.combine(params, static).denoise(x, jnp.asarray(0.7), jnp.asarray(1)) ** 2)

    x = jnp.ones((4, 4, 3))
    found = checkpoints(jax.grad(loss), params, x)
    assert len(found) == parts, found
    assert not checkpoints(jax.grad(lambda p, x: jnp.sum(x)), params, x)


@pytest.mark.slow_for("SongUNet", "DhariwalUNet", "UNet2DModel", "PixelTransformer")
@pytest.mark.parametrize("kind", [DhariwalUNet, SongUNet, *BUILT])
def test_narrow_weights_compute_the_same(kind):
    draw = np.random.default_rng(3)
    network = jax.tree.map(
        lambda leaf: (
            leaf + jnp.asarray(0.1 * draw.standard_normal(leaf.shape), leaf.dtype) if eqx.is_array(leaf) else leaf
        ),
        build(kind),
    )
    denoiser = with_precision(Denoiser(network, 0.5), HALF)
    small = narrowed(denoiser, jnp.bfloat16)
    kinds = {leaf.dtype.name for leaf in jax.tree.leaves(eqx.filter(small, eqx.is_array))}
    assert kinds == {"float32", "bfloat16"}
    ask = eqx.filter_jit(lambda d, x: d.denoise(x, jnp.asarray(0.7), jnp.asarray(1)))
    x = jnp.asarray(draw.standard_normal((4, 4, 3)), jnp.float32)
    assert ask(small, x).dtype == jnp.float32
    np.testing.assert_array_equal(ask(small, x), ask(denoiser, x))


def test_what_is_no_network_is_not_narrowed():
    mixture = GaussianMixture(jnp.ones((2, 3)), 0.5)
    assert eqx.tree_equal(narrowed(mixture, jnp.bfloat16), mixture)


@pytest.mark.slow
def test_attention_is_the_softmax_in_both_precisions():
    query, key, value = jax.random.normal(KEY, (3, 5, 2, 8))
    weights = jax.nn.softmax(jnp.einsum("qhf,khf->hqk", query, key) / np.sqrt(8), -1)
    expected = jnp.einsum("hqk,khf->qhf", weights, value)
    np.testing.assert_allclose(attend(query, key, value), expected, atol=1e-5)
    narrow = attend(*(part.astype(jnp.bfloat16) for part in (query, key, value)))
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(jnp.float32), expected, atol=0.05)
