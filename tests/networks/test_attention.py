"""Self-attention against its formula, and its symmetry under permutation of pixels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.networks.layers import SelfAttention


def _attention(channels: int) -> SelfAttention:
    layer = SelfAttention(channels, key=jax.random.key(0))
    out = jax.random.normal(jax.random.key(1), (channels, channels)) * channels**-0.5
    return eqx.tree_at(lambda layer: layer.project_out.weight, layer, out)  # it starts at 0


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "heads"), [(12, 1), (128, 2)])
def test_formula(channels: int, heads: int) -> None:
    layer = _attention(channels)
    assert layer.heads == heads
    x = jax.random.normal(jax.random.key(2), (3, 2, channels))
    normed = np.asarray(layer.norm(x)).reshape(6, channels)
    query, key, value = np.split(normed @ np.asarray(layer.project_in.weight), 3, axis=1)
    size = channels // heads
    parts = []
    for head in range(heads):
        columns = slice(head * size, (head + 1) * size)
        logits = np.exp(query[:, columns] @ key[:, columns].T / np.sqrt(size))
        parts.append(logits / logits.sum(1, keepdims=True) @ value[:, columns])
    expected = np.concatenate(parts, 1) @ np.asarray(layer.project_out.weight)
    np.testing.assert_allclose(eqx.filter_jit(layer)(x) - x, expected.reshape(x.shape), atol=2e-5)


@pytest.mark.slow
def test_permuting_pixels_permutes_the_output() -> None:
    layer = _attention(8)
    x = jax.random.normal(jax.random.key(2), (4, 3, 8))
    order = jax.random.permutation(jax.random.key(3), 12)
    permuted = x.reshape(12, 8)[order].reshape(4, 3, 8)
    run = eqx.filter_jit(layer)
    out = run(x).reshape(12, 8)
    assert np.abs(out - run(permuted).reshape(12, 8)).max() > 0.1
    np.testing.assert_allclose(out[order], run(permuted).reshape(12, 8), atol=1e-5)


def test_it_starts_as_the_identity() -> None:
    x = jnp.ones((2, 2, 8))
    np.testing.assert_array_equal(SelfAttention(8, key=jax.random.key(0))(x), x)
