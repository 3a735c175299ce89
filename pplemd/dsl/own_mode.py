"""Functions that compute in the mode, of 32 bits or 64, that they were traced in, whoever asks them."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, PyTree


def in_own_mode(function: Callable, kind: Any) -> Callable:
    """Return a function that is computed in its own mode, derivatives of every order too.

    JAX runs a derivative's transposed operations, and the operations of a loop that is mapped, in the mode of whoever
    transforms them, which would round them or mix types. Here the derivative is a Jacobian that is itself such a
    function, and the mapped function is mapped in its own mode; what comes out is in the type of the first argument.

    Args:
        function: of arrays, of which those of floating type are taken in the type ``kind``; gives a pytree of arrays.
        kind: float32 or float64.
    """
    wide = jnp.dtype(kind) == jnp.float64

    @functools.wraps(function)
    def evaluate(first: Array, *others: Array | None) -> PyTree:
        args = (first, *others)
        if first.dtype == jnp.dtype(kind) and bool(jax.config.read("jax_enable_x64")) == wide:
            return function(*args)
        given = [i for i, one in enumerate(args) if one is not None]

        def of_arguments(*arrays: Array) -> PyTree:
            found = dict(zip(given, arrays, strict=True))
            return function(*(found.get(i) for i in range(len(args))))

        return _differentiable(of_arguments, kind)(*(jnp.asarray(args[i]) for i in given))

    return evaluate


def _differentiable(function: Callable, kind: Any) -> Callable:
    """The function in its own mode, its Jacobians too."""
    there = jax.custom_jvp(_opaque(function, kind))

    @there.defjvp
    def _(at: tuple[Array, ...], along: tuple[Array, ...]) -> tuple[PyTree, PyTree]:
        moved = tuple(i for i, one in enumerate(at) if jnp.issubdtype(one.dtype, jnp.floating))

        def slopes(*args: Array) -> tuple[PyTree, ...]:
            return tuple(jax.jacrev(function, i)(*args) for i in moved)

        pushed = [
            jax.tree.map(lambda rows, i=i: jnp.tensordot(rows, along[i], at[i].ndim), slope)
            for i, slope in zip(moved, _differentiable(slopes, kind)(*at), strict=True)
        ]
        return there(*at), jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *pushed)

    return there


def _opaque(function: Callable, kind: Any) -> Callable:
    """The function in its own mode, into which no map of the caller's looks."""
    wide = jnp.dtype(kind) == jnp.float64

    @custom_vmap
    def there(*args: Array) -> PyTree:
        integers = jax.dtypes.canonicalize_dtype(jnp.int64)

        def back(leaf: Array) -> Array:
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf.astype(args[0].dtype)
            return leaf.astype(integers) if leaf.dtype == jnp.int64 else leaf

        with jax.enable_x64(True):  # where there are both types
            own = [one.astype(kind) if jnp.issubdtype(one.dtype, jnp.floating) else one for one in args]
        with jax.enable_x64(wide):
            found = function(*own)
        with jax.enable_x64(True):
            return jax.tree.map(back, found)

    @there.def_vmap
    def _(size: int, mapped: list[bool], *args: Array) -> tuple[PyTree, PyTree]:
        axes = tuple(0 if one else None for one in mapped)
        found = _opaque(jax.vmap(function, in_axes=axes, axis_size=size), kind)(*args)
        return found, jax.tree.map(lambda leaf: True, found)

    return there
