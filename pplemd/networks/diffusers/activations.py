"""Activations of a UNet2DModel's blocks, by diffusers' names."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array


def mish(x: Array) -> Array:
    """`x tanh(softplus(x))`. Source: arXiv:1908.08681, equation 1."""
    return x * jnp.tanh(jax.nn.softplus(x))


def gelu(x: Array) -> Array:
    """GELU, exact. Source: arXiv:1606.08415, equation 2."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": mish,
    "gelu": gelu,
    "relu": jax.nn.relu,
}
