"""JAX's 64-bit mode: distillation computes in 32 bits, whatever the session that asks for it is in.

A fit and a posterior are in the session's own mode, 32 bits or 64.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp

from pplemd.model import Model
from pplemd.teachers import AbstractTeacher

P, T = ParamSpec("P"), TypeVar("T")


def single() -> bool:
    """Turn the 64-bit mode off, for this process and all its threads; return whether it was on."""
    was_on = bool(jax.config.read("jax_enable_x64"))
    if was_on:
        jax.config.update("jax_enable_x64", False)
    return was_on


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Leave the mode as it was found, whatever is done to it within."""
    before = bool(jax.config.read("jax_enable_x64"))
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def in_single(call: Callable[P, T]) -> Callable[P, T]:
    """A function that runs in the 32-bit mode, whatever its caller's."""

    @functools.wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with jax.enable_x64(False):
            return call(*args, **kwargs)

    return run


def narrowed(model: Model) -> Model:
    """A model whose teacher holds no arrays of 64 bits."""
    if not isinstance(model.teacher, AbstractTeacher):
        return model

    def narrow(leaf: Any) -> Any:
        return leaf.astype(jnp.float32) if eqx.is_array(leaf) and leaf.dtype == jnp.float64 else leaf

    return dataclasses.replace(model, teacher=jax.tree.map(narrow, model.teacher))
