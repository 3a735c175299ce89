"""JAX's 64-bit mode: distillation computes in 32 bits, whatever the session's mode is.

A fit and a posterior are in the session's own mode, 32 bits or 64.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from pplemd.diffusion import AbstractConvention
from pplemd.dsl import in_own_mode
from pplemd.teachers import AbstractTeacher, Posterior

P, T = ParamSpec("P"), TypeVar("T")


def single() -> bool:
    """Turn the 64-bit mode off, for this process and all its threads; return whether it was on."""
    was_on = wide()
    if was_on:
        jax.config.update("jax_enable_x64", False)
    return was_on


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Leave the mode as it was found, whatever is done to it within."""
    before = wide()
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def wide() -> bool:
    """Whether this thread is in the 64-bit mode."""
    return bool(jax.config.read("jax_enable_x64"))


def in_single(call: Callable[P, T]) -> Callable[P, T]:
    """A function that runs in the 32-bit mode, whatever its caller's."""

    @functools.wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.enable_x64(False):
            return call(*args, **kwargs)

    return run


def narrow(teacher: AbstractTeacher) -> AbstractTeacher:
    """A teacher that was declared in the 64-bit mode, as one that can be evaluated in the 32-bit mode.

    Its arrays become those of 32 bits. A plain function may refer to arrays that cannot be seen: it is evaluated in 64.
    A posterior, which was traced, knows its own mode.
    """

    def is_whole(node: Any) -> bool:
        walked = isinstance(node, AbstractTeacher | AbstractConvention) and not isinstance(node, Posterior)
        return isinstance(node, eqx.Module) and not walked

    def to_32(leaf: Any) -> Any:
        return leaf.astype(jnp.float32) if eqx.is_array(leaf) and leaf.dtype == jnp.float64 else leaf

    def of(node: Any) -> Any:
        plain = callable(node) and not isinstance(node, eqx.Module)
        return in_own_mode(node, jnp.float64) if plain else jax.tree.map(to_32, node)

    return jax.tree.map(of, teacher, is_leaf=is_whole)
