"""The form of what conditions a distribution, its null value included, and priors over it."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Int, PRNGKeyArray, PyTree

from pplemd.errors import RecipeError

Condition = PyTree  # one value: a pytree of arrays; None where nothing conditions
NO_CLASS = np.asarray(-1, np.int32)


@dataclasses.dataclass(frozen=True)
class AbstractCondition(ABC):
    """The form of a condition. Teachers, networks and programs of one task share one; it is static, and holds no array.

    A distribution without a condition has None in its place.
    """

    @property
    @abstractmethod
    def shapes(self) -> PyTree[jax.ShapeDtypeStruct]:
        """One value's shapes and types."""

    @property
    @abstractmethod
    def null(self) -> PyTree[np.ndarray]:
        """The value that stands for no condition: what a network was taught with in place of dropped conditions.

        Source: arXiv:2207.12598, section 3.2, where it is written c = 0.
        """

    @property
    @abstractmethod
    def words(self) -> str:
        """What a value is, for messages: "one of 10 classes"."""


@dataclasses.dataclass(frozen=True)
class Classes(AbstractCondition):
    """One of several classes: an int32 scalar from 0 to count - 1; -1 stands for no class.

    Attributes:
        count: how many classes.

    Raises:
        RecipeError: where there is none.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise RecipeError(f"found classes={self.count}; expected 1 or more, or None where there are none.")

    @property
    def shapes(self) -> PyTree[jax.ShapeDtypeStruct]:
        """An int32 scalar."""
        return jax.ShapeDtypeStruct((), jnp.int32)

    @property
    def null(self) -> PyTree[np.ndarray]:
        """-1."""
        return NO_CLASS

    @property
    def words(self) -> str:
        """How many classes."""
        return f"one of {self.count} classes"


@dataclasses.dataclass(frozen=True)
class Tokens(AbstractCondition):
    """Tokens of a text: {"tokens": int32 (length,), "mask": bool (length,)}, the mask True where a token stands.

    No token at all stands for no condition.

    Attributes:
        length: the most tokens of a text; shorter ones are filled up, and masked.
        vocabulary: how many different tokens there are.

    Raises:
        RecipeError: where one is below 1.
    """

    length: int
    vocabulary: int

    def __post_init__(self) -> None:
        if min(self.length, self.vocabulary) < 1:
            raise RecipeError(f"tokens need a length and a vocabulary of 1 or more; found {self}.")

    @property
    def shapes(self) -> PyTree[jax.ShapeDtypeStruct]:
        """Of tokens and mask."""
        types = {"tokens": jnp.int32, "mask": jnp.bool_}
        return {name: jax.ShapeDtypeStruct((self.length,), dtype) for name, dtype in types.items()}

    @property
    def null(self) -> PyTree[np.ndarray]:
        """All masked."""
        return {"tokens": np.zeros(self.length, np.int32), "mask": np.zeros(self.length, bool)}

    @property
    def words(self) -> str:
        """How many tokens, of which."""
        return f"up to {self.length} of {self.vocabulary:,} tokens"


@dataclasses.dataclass(frozen=True)
class Arrays(AbstractCondition):
    """Arrays of any shapes by name: an image to be completed, a vector of measurements.

        em.conditions.Arrays({"image": (8, 8, 1), "sex": ()}, empty=0.0)

    Attributes:
        sizes: the shape of each, by name.
        empty: what fills the arrays of no condition.
    """

    sizes: tuple[tuple[str, tuple[int, ...]], ...]
    empty: float

    def __init__(self, sizes: Mapping[str, tuple[int, ...]] | tuple, empty: float = 0.0):
        pairs = sizes.items() if isinstance(sizes, Mapping) else sizes
        object.__setattr__(self, "sizes", tuple(sorted((name, tuple(size)) for name, size in pairs)))
        object.__setattr__(self, "empty", float(empty))

    @property
    def shapes(self) -> PyTree[jax.ShapeDtypeStruct]:
        """By name, 32-bit floats."""
        return {name: jax.ShapeDtypeStruct(size, jnp.float32) for name, size in self.sizes}

    @property
    def null(self) -> PyTree[np.ndarray]:
        """All of them empty."""
        return {name: np.full(size, self.empty, np.float32) for name, size in self.sizes}

    @property
    def words(self) -> str:
        """Names and shapes."""
        return ", ".join(f"{name} {size}" for name, size in self.sizes)


def as_condition(given: AbstractCondition | int | None) -> AbstractCondition | None:
    """A form as it is; a number is that of classes."""
    return Classes(given) if isinstance(given, int) else given


def classes_of(condition: AbstractCondition | None) -> int | None:
    """How many classes, where a condition is a class."""
    return condition.count if isinstance(condition, Classes) else None


def same_shapes(one: AbstractCondition | None, other: AbstractCondition | None) -> bool:
    """Whether values of one form may stand where those of another are expected."""
    if one is None or other is None or classes_of(one) != classes_of(other):
        return one is other
    return fits(one.shapes, other.shapes)


def fits(one: PyTree[jax.ShapeDtypeStruct], other: PyTree[jax.ShapeDtypeStruct]) -> bool:
    """Whether two trees are of one structure, with leaves of the same shapes and types."""
    (leaves, structure), (others, expected) = jax.tree.flatten(one), jax.tree.flatten(other)
    return str(structure) == str(expected) and [(leaf.shape, leaf.dtype) for leaf in leaves] == [
        (leaf.shape, leaf.dtype) for leaf in others
    ]


def dropped(condition: Condition, null: PyTree[np.ndarray], rate: float, key: PRNGKeyArray | None) -> Condition:
    """A condition, or with a probability the null value; without a key, the condition.

    Args:
        condition: one value; None for nothing.
        null: what stands for no condition.
        rate: probability that it is dropped.
        key: randomness of training; None otherwise.

    Source: arXiv:2207.12598, algorithm 1.
    """
    if condition is None or key is None or rate == 0.0:
        return condition
    drop = jax.random.bernoulli(key, rate)

    def one(value: ArrayLike, none: np.ndarray) -> Array:
        return jnp.where(drop, jnp.asarray(none, jnp.asarray(value).dtype), jnp.asarray(value))

    return jax.tree.map(one, condition, null)


class AbstractConditionPrior(eqx.Module):
    """A distribution of conditions."""

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
        """What it is a distribution of, for messages."""


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
