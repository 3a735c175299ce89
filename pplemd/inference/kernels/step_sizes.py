"""Step sizes given per block of coordinates."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from pplemd.errors import RecipeError


def per_leaf(step_size: PyTree, position: PyTree) -> PyTree:
    """One step size for each leaf of a position.

    Args:
        step_size: a number, or a prefix of the position's structure with a number (or array) for each of its blocks.
        position: the coordinates.

    Raises:
        RecipeError: where the step size was left to adaptation and nobody adapted it.
    """
    if step_size is None:
        raise RecipeError("this kernel has no step size. Give one, Langevin(0.16) say, or adapt it before it is used.")
    return jax.tree.map(lambda size, block: jax.tree.map(lambda _: size, block), step_size, position)


def inverse_mass(step_size: PyTree, position: PyTree) -> Float[Array, " n"]:
    """The diagonal inverse mass h^2, which makes a unit leapfrog step as long as steps h; raveled for BlackJAX."""

    def squared(u: Array, h: Array | float) -> Array:
        return jnp.broadcast_to(jnp.asarray(h, u.dtype) ** 2, u.shape)

    return ravel_pytree(jax.tree.map(squared, position, per_leaf(step_size, position)))[0]


def sized(kernel, step_size: PyTree):
    """The same kernel with another step size."""
    return eqx.tree_at(lambda k: k.step_size, kernel, step_size, is_leaf=lambda leaf: leaf is None)
