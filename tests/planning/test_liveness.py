"""Temporaries counted on a trace: what is written down, what is fused, what is computed again."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from pplemd.networks import DhariwalUNet, UNetOptions
from pplemd.planning.cost import peak_bytes, traced

SIDE = 64
ONE = 4 * SIDE * SIDE  # bytes of a matrix
A = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32)


def peak(function, *shapes):
    return peak_bytes(traced(function, *(shapes or (A,))))


def test_arguments_and_results_are_held_anyway():
    assert peak(lambda a: a @ a) == 0
    assert peak(lambda a: (a @ a) @ a) == ONE
    assert peak(lambda a: ((a @ a) @ a) @ a) == 2 * ONE  # one is read while the other is written


def test_elementwise_results_are_fused_unless_a_product_reads_them():
    assert peak(lambda a: jnp.sin(jnp.cos(a @ a) + 1) * 2) == ONE
    assert peak(lambda a: jnp.sum(jnp.sin(a) ** 2)) == 0
    assert peak(lambda a: jnp.sin(a) @ a) == ONE
    assert peak(lambda a: jax.nn.silu(a) @ a) == ONE  # inside a call


def test_what_a_gradient_needs_is_kept_until_then():
    def deep(depth, wrap=lambda f: f):
        layer = wrap(lambda x, a: jnp.sin(x @ a))

        def loss(a):
            x = a
            for _ in range(depth):
                x = layer(x, a)
            return jnp.sum(x)

        return peak(jax.grad(loss))

    assert deep(8) - deep(4) >= 4 * ONE
    assert deep(8, jax.checkpoint) - deep(4, jax.checkpoint) == 4 * ONE  # what each layer starts from
    assert deep(8, jax.checkpoint) < deep(8)


def test_a_loop_needs_what_one_turn_does():
    def loop(length):
        return lambda a: jax.lax.scan(lambda c, _: (jnp.sin(c @ a) @ a, None), a, length=length)[0]

    assert peak(loop(3)) == peak(loop(300)) > 0


@pytest.mark.slow
def test_it_is_near_what_the_compiler_says():
    """Of a small convolutional network with norms, its gradient: within a factor of two."""
    network = DhariwalUNet(UNetOptions((16, 16, 3), 16, (1,), blocks=1, attention=()), key=jax.random.key(0))
    params, static = eqx.partition(network, eqx.is_array)

    def loss(params, x):
        return jnp.sum(jax.vmap(lambda one: eqx.combine(params, static)(one, 0.3))(x) ** 2)

    x = jax.ShapeDtypeStruct((16, 16, 16, 3), jnp.float32)
    said = jax.jit(jax.grad(loss)).lower(params, x).compile().memory_analysis()
    assert 0.5 < peak_bytes(traced(jax.grad(loss), params, x)) / said.temp_size_in_bytes < 2
