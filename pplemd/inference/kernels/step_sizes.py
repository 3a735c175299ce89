"""Step sizes given per block of coordinates."""

import jax
from jaxtyping import PyTree


def per_leaf(step_size: PyTree, position: PyTree) -> PyTree:
    """One step size for each leaf of a position.

    Args:
        step_size: a number, or a prefix of the position's structure with a number for each of its blocks.
        position: the coordinates.
    """
    return jax.tree.map(lambda size, block: jax.tree.map(lambda _: size, block), step_size, position)
