"""The generator MLP."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pplemd.errors import RecipeError
from pplemd.networks import MLP

KEY = jax.random.key(0)


@pytest.mark.parametrize(("in_shape", "out_shape"), [((2,), (2,)), ((3,), (4, 4, 1)), ((2, 2), (5,))])
def test_shapes_dtype_vmap_and_one_trace(in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
    mlp = MLP(in_shape, out_shape, 16, 2, classes=3, key=KEY)
    z, labels = jax.random.normal(jax.random.key(1), (4, *in_shape)), jnp.asarray([0, 1, 2, -1])
    batched = eqx.filter_jit(eqx.debug.assert_max_traces(eqx.filter_vmap(mlp), max_traces=1))
    out = batched(z, labels)
    np.testing.assert_allclose(batched(z + 0.0, labels), out)
    assert out.shape == (4, *out_shape)
    assert out.dtype == jnp.float32
    looped = [mlp(latent, label) for latent, label in zip(z, [0, 1, 2, None], strict=True)]
    np.testing.assert_allclose(out, jnp.stack(looped), atol=1e-5)
    assert mlp(z[0].astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_the_label_matters_and_none_is_a_case_of_its_own() -> None:
    mlp = MLP((2,), (2,), 16, 2, classes=2, key=KEY)
    outs = jnp.stack([mlp(jnp.ones(2), label) for label in (0, 1, None)])
    assert np.abs(outs[0] - outs[1]).max() > 1e-2
    assert np.abs(outs[0] - outs[2]).max() > 1e-2
    assert np.abs(outs[1] - outs[2]).max() > 1e-2


def test_parameter_count_and_depth() -> None:
    mlp = MLP((2,), (3,), 192, 4, classes=5, key=KEY)
    assert len(mlp.layers) == 5
    count = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(mlp, eqx.is_array)))
    assert count == 3 * 192 + 3 * 193 * 192 + 193 * 3 + 5 * 192


def test_a_deep_mlp_starts_with_outputs_of_the_latents_scale() -> None:
    z = jax.random.normal(jax.random.key(1), (256, 32))
    out = jax.vmap(MLP((32,), (64,), 256, 8, key=KEY))(z)
    assert 0.7 < float(jnp.sqrt(jnp.mean(out**2))) < 1.4  # without the gain of SiLU it would be 1.676^-8 = 0.016


def test_it_fits_a_curved_map() -> None:
    mlp = MLP((2,), (2,), 32, 2, key=KEY)
    z = jax.random.normal(jax.random.key(1), (256, 2))
    target = jnp.stack([jnp.abs(z[:, 0]), z[:, 0] * z[:, 1]], -1)
    optimiser = optax.adam(1e-2)
    params, static = eqx.partition(mlp, eqx.is_array)

    def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        params, state = carry
        loss, grads = jax.value_and_grad(
            lambda params: jnp.mean((jax.vmap(eqx.combine(params, static))(z) - target) ** 2)
        )(params)
        updates, state = optimiser.update(grads, state)
        return (optax.apply_updates(params, updates), state), loss

    with jax.numpy_dtype_promotion("standard"):  # Optax counts steps in int32 and raises a float to them
        losses = jax.jit(lambda params: jax.lax.scan(step, (params, optimiser.init(params)), length=150)[1])(params)
    assert losses[-1] < 0.1 * np.asarray(target).var(0).mean()  # no affine map of z explains more than a trace of it


@pytest.mark.slow_for("<lambda>-without classes")
@pytest.mark.parametrize(
    ("build", "found"),
    [
        (lambda: MLP((2,), (2,), 0, key=KEY), "width is 0"),
        (lambda: MLP((2,), (2,), 8, 0, key=KEY), "depth is 0"),
        (lambda: MLP((2,), (2,), classes=0, key=KEY), "classes is 0"),
        (lambda: MLP((), (2,), key=KEY), "in_shape"),
        (lambda: MLP((2,), (0,), key=KEY), "out_shape"),
        (lambda: MLP((2,), (2,), key=KEY)(jnp.ones((5, 2))), "vmap"),
        (lambda: MLP((2,), (2,), key=KEY)(jnp.ones(2), 1), "without classes"),
    ],
)
def test_mistakes_are_named(build: Callable[[], object], found: str) -> None:
    with pytest.raises(RecipeError, match=found):
        build()
