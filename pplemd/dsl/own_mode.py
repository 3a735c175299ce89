"""Functions that compute in the mode, of 32 bits or 64, that they were traced in, whoever asks them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree


def in_own_mode(function: Callable, kind: Any) -> Callable:
    """Return a function of a vector that is computed in its own mode, derivatives of every order too.

    JAX runs a derivative's transposed operations in the mode of whoever differentiates, which would round them. Here
    the derivative is a Jacobian that is itself such a function; what comes out is in the caller's type.

    Args:
        function: traced, of one vector of type ``kind``; gives a pytree of arrays.
        kind: float32 or float64.
    """
    wide = jnp.dtype(kind) == jnp.float64

    @jax.custom_jvp
    def there(x: Float[Array, " d"]) -> PyTree:
        integers = jax.dtypes.canonicalize_dtype(jnp.int64)

        def back(leaf: Array) -> Array:
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf.astype(x.dtype)
            return leaf.astype(integers) if leaf.dtype == jnp.int64 else leaf

        with jax.enable_x64(True):  # where there are both types
            own = x.astype(kind)
        with jax.enable_x64(wide):
            found = function(own)
        with jax.enable_x64(True):
            return jax.tree.map(back, found)

    @there.defjvp
    def _(at: tuple[Array], along: tuple[Array]) -> tuple[PyTree, PyTree]:
        slope = in_own_mode(jax.jacrev(function), kind)(at[0])
        return there(at[0]), jax.tree.map(lambda rows: jnp.tensordot(rows, along[0], 1), slope)

    def ask(x: Float[Array, " d"]) -> PyTree:
        at_home = x.dtype == jnp.dtype(kind) and bool(jax.config.read("jax_enable_x64")) == wide
        return function(x) if at_home else there(x)

    return ask
