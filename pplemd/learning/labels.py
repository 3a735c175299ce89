"""The prior over class labels."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from pplemd.errors import RecipeError


class Labels(eqx.Module):
    """A categorical prior over labels 0 .. classes - 1.

    Args:
        weights: a weight for each class, zero for one that is never drawn; they are scaled to sum to one.

    Raises:
        RecipeError: where there are none, one is negative or not finite, or all are zero.
    """

    weights: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, weights):
        self.weights = tuple(float(weight) for weight in weights)
        if not self.weights or min(self.weights) < 0 or not 0 < sum(self.weights) < math.inf:
            raise RecipeError(
                f"labels need finite weights that are not negative and not all zero; found {self.weights}. Give one "
                "for each class, for example its share of the data."
            )

    @property
    def classes(self) -> int:
        """How many classes."""
        return len(self.weights)

    def draw(self, key: PRNGKeyArray, count: int) -> Int[Array, " count"]:
        """Independent labels."""
        return jax.random.categorical(key, jnp.log(jnp.asarray(self.weights)), shape=(count,)).astype(jnp.int32)


def uniform_labels(classes: int) -> Labels:
    """Every class equally likely."""
    return Labels((1.0,) * classes)
