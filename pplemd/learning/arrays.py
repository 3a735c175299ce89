"""A pytree told by its arrays alone, in which form a compiled program takes and gives it."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PyTree


class Arrays:
    """How pytrees that are alike but for their arrays are put together from them.

    Args:
        tree: one of them; its other leaves are those of all.
    """

    def __init__(self, tree: PyTree) -> None:
        leaves, structure = jax.tree.flatten(tree)
        self.structure: Any = structure  # a type that JAX does not give away
        self._places = [place for place, leaf in enumerate(leaves) if eqx.is_array(leaf)]
        self._others: list[Any] = [None if eqx.is_array(leaf) else leaf for leaf in leaves]

    def of(self, tree: PyTree) -> list[Array]:
        """Its arrays, in order."""
        leaves = jax.tree.leaves(tree)
        return [leaves[place] for place in self._places]

    def whole(self, arrays: Sequence[Array]) -> PyTree:
        """The pytree of these arrays."""
        leaves = list(self._others)
        for place, array in zip(self._places, arrays, strict=True):
            leaves[place] = array
        return jax.tree.unflatten(self.structure, leaves)
