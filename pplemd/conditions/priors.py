"""Priors over conditions: what a generator is trained and sampled with."""

import math
from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from pplemd.conditions.forms import AbstractCondition, Classes, Condition, fits
from pplemd.errors import RecipeError


class AbstractConditionPrior(eqx.Module):
    """A law of conditions."""

    @abstractmethod
    def fits(self, condition: AbstractCondition) -> bool:
        """Whether its values are of a form."""

    @abstractmethod
    def draw(self, key: PRNGKeyArray, count: int) -> Condition:
        """Independent values, with a leading dimension count."""

    @abstractmethod
    def in_turn(self, count: int) -> Condition:
        """One of each value in turn, for pictures, with a leading dimension count."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What it is a law of, for messages."""


class Labels(AbstractConditionPrior):
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

    @classmethod
    def uniform(cls, classes: int) -> "Labels":
        """Every class equally likely."""
        return cls((1.0,) * classes)

    @property
    def classes(self) -> int:
        """How many classes."""
        return len(self.weights)

    def fits(self, condition: AbstractCondition) -> bool:
        """Whether there is a weight for each class."""
        return condition == Classes(self.classes)

    def draw(self, key: PRNGKeyArray, count: int) -> Int[Array, " count"]:
        """Independent labels."""
        return jax.random.categorical(key, jnp.log(jnp.asarray(self.weights)), shape=(count,)).astype(jnp.int32)

    def in_turn(self, count: int) -> Int[Array, " count"]:
        """Labels 0, 1, ..., classes - 1, 0, 1, ..."""
        return jnp.arange(count, dtype=jnp.int32) % self.classes

    @property
    def words(self) -> str:
        """How many classes."""
        return f"{self.classes} classes"


class Listed(AbstractConditionPrior):
    """Given values, each equally likely: a list of prompts, or the conditions of rows of data.

    Args:
        values: a pytree of arrays with a leading dimension, one value for each index.

    Raises:
        RecipeError: where there are no values, or arrays of several lengths.
    """

    values: PyTree[Array]

    def __init__(self, values: PyTree):
        lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(values)}
        if len(lengths) != 1 or not all(length and length[0] for length in lengths):
            found = ", ".join(str(jnp.shape(leaf)) for leaf in jax.tree.leaves(values)) or "none"
            raise RecipeError(
                f"listed conditions need arrays with one leading dimension of 1 or more; found shapes {found}."
            )
        self.values = jax.tree.map(jnp.asarray, values)

    @property
    def count(self) -> int:
        """How many values there are."""
        return int(jax.tree.leaves(self.values)[0].shape[0])

    def fits(self, condition: AbstractCondition) -> bool:
        """Whether its arrays are of the form's shapes and types."""
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), self.values)
        return fits(one, condition.shapes)

    def draw(self, key: PRNGKeyArray, count: int) -> Condition:
        """Independent values, each equally likely."""
        chosen = jax.random.randint(key, (count,), 0, self.count)
        return jax.tree.map(lambda leaf: leaf[chosen], self.values)

    def in_turn(self, count: int) -> Condition:
        """The values in their order, from the first again after the last."""
        chosen = jnp.arange(count) % self.count
        return jax.tree.map(lambda leaf: leaf[chosen], self.values)

    @property
    def words(self) -> str:
        """How many values."""
        return f"{self.count} given values"
