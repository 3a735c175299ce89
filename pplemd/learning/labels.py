"""The prior over class labels."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray

from pplemd.errors import RecipeError


class Labels(eqx.Module):
    """A categorical prior over labels 0 .. classes - 1.

    Args:
        weights: a positive weight for each class; they are scaled to sum to one.

    Raises:
        RecipeError: where there are none, or one is negative.
    """

    weights: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, weights):
        self.weights = tuple(float(weight) for weight in weights)
        if not self.weights or min(self.weights) < 0 or not sum(self.weights) > 0:
            raise RecipeError(f"labels need weights that are not negative and not all zero; found {self.weights}.")

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
