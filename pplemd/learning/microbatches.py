"""A batch cut into microbatches, one after the other: for what is too large to be computed at once."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

ResultT = TypeVar("ResultT", bound=PyTree)


def mapped(function: Callable[..., ResultT], arguments: tuple[PyTree, ...], parts: int) -> ResultT:
    """`jax.vmap(function)(*arguments)`, a microbatch at a time.

    Args:
        function: of one sample.
        arguments: its arguments, pytrees with a leading batch dimension; None for one that is not there.
        parts: microbatches, at least: as many as divide the batch.
    """
    parts = dividing(_count(arguments), parts)
    if parts == 1:
        return jax.vmap(function)(*arguments)
    return _joined(jax.lax.map(lambda some: jax.vmap(function)(*some), _cut(arguments, parts)))


def averaged(function: Callable[..., ResultT], arguments: tuple[PyTree, ...], parts: int) -> ResultT:
    """The mean over microbatches of what a function gives for each: of losses and gradients that are means themselves.

    Args:
        function: of a microbatch; its result is a pytree of floating-point arrays.
        arguments: its arguments, pytrees with a leading batch dimension.
        parts: microbatches, at least: as many as divide the batch.
    """
    parts = dividing(_count(arguments), parts)
    if parts == 1:
        return function(*arguments)
    cut = _cut(arguments, parts)
    first = jax.tree.map(lambda leaf: leaf[0], cut)
    like = jax.eval_shape(function, *first)
    zeros: Any = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)  # no weak types

    def add(sums: ResultT, some: Any) -> tuple[ResultT, None]:
        return jax.tree.map(jnp.add, sums, function(*some)), None

    sums, _ = jax.lax.scan(add, zeros, cut)
    return jax.tree.map(lambda leaf: leaf / parts, sums)


def dividing(count: int, parts: int) -> int:
    """The least number of equal parts of `count` samples that is not less than `parts`; one sample is the smallest."""
    return next((more for more in range(parts, count) if count % more == 0), count)


def _count(tree: PyTree) -> int:
    """Samples of a batch."""
    return jax.tree.leaves(tree)[0].shape[0]


def _cut(tree: PyTree, parts: int) -> PyTree:
    """Sample i goes into microbatch i mod `parts`: devices that share a batch hold their share of each microbatch."""

    def cut(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(leaf.shape[0] // parts, parts, *leaf.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(cut, tree)


def _joined(tree: PyTree) -> PyTree:
    """Microbatches as the batch that they were cut from."""
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(-1, *leaf.shape[2:]), tree)
