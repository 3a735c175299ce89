"""The form of what conditions a law: shapes and types of one value, and the value that stands for no condition."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray, PyTree

from pplemd.errors import RecipeError

Condition = PyTree  # one value: a pytree of arrays; None where nothing conditions
NO_CLASS = np.asarray(-1, np.int32)


@dataclasses.dataclass(frozen=True)
class AbstractCondition(ABC):
    """The form of a condition. Teachers, networks and programs of one task share one; it is static, and holds no array.

    A law without a condition has None in its place.
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
