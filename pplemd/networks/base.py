"""The contract of a time-conditioned network, and the precision that it is computed in."""

import dataclasses
import difflib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, PyTree

from pplemd.conditions import AbstractCondition, Condition, as_condition
from pplemd.errors import RecipeError

Label = Int[Array, ""] | int | None
OptionsT = TypeVar("OptionsT", bound=eqx.Module)


class AbstractNetwork(eqx.Module):
    """A map from a noised sample, its noise level and a condition to an array of the sample's shape.

    Every array leaf of a network is a trainable parameter. It is called with its arguments by place.
    """

    shape: eqx.AbstractVar[tuple[int, ...]]  # of one sample: (d,) or (h, w, c)

    @property
    @abstractmethod
    def condition(self) -> AbstractCondition | None:
        """The form of what conditions it; None where it takes no condition."""

    @abstractmethod
    def __call__(
        self,
        x: Float[Array, "*shape"],
        time: Float[Array, ""] | float,
        condition: Condition = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "*shape"]:
        """Return the raw prediction for one sample.

        Args:
            x: the network's input, of the network's shape; vmap to batch.
            time: what the network gets of the noise level, of order 1: log(sigma) / 4 in the EDM convention.
            condition: one value of the form; None for no condition.
            key: randomness of dropout while training; None for the deterministic network.

        Returns:
            The prediction, of x's shape and dtype.

        Raises:
            RecipeError: x is not of the network's shape, or a condition is given to a network without one.
        """


class AbstractClassNetwork(AbstractNetwork):
    """A network whose condition is a class, or nothing.

    It takes a class index in [0, classes); None or -1 for no class.
    """

    classes: eqx.AbstractVar[int | None]  # None where the network takes none

    @property
    def condition(self) -> AbstractCondition | None:
        """Its classes."""
        return as_condition(self.classes)


def options_of(
    owner: str, kind: type[OptionsT], given: OptionsT | tuple[int, ...], sizes: Mapping[str, Any]
) -> OptionsT:
    """The options of a network that is given them as one value, or as a shape and sizes by name.

    Args:
        owner: name of the network's class.
        kind: of its options.
        given: the options, or the shape of one image.
        sizes: fields of the options by name, beside a shape.

    Raises:
        RecipeError: another value, a name that is no field, a field that is lacking, or sizes beside options.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    form = f"{owner}((32, 32, 3), {known[1]}=..., key=key), or {owner}({kind.__name__}(...), key=key)"
    for name in sizes:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise RecipeError(f"{owner} has no argument {name}; expected some of {', '.join(known)}, and key.{meant}")
    if isinstance(given, kind):
        if sizes:
            raise RecipeError(f"{owner}: found {', '.join(sizes)} beside a {kind.__name__}; expected them in it.")
        return given
    if not isinstance(given, tuple | list):
        raise RecipeError(f"{owner}: its first argument is {_brief(given)}; expected {form}.")
    needed = [one.name for one in dataclasses.fields(kind) if one.default is dataclasses.MISSING]
    lacking = [name for name in needed[1:] if name not in sizes]
    if lacking:
        raise RecipeError(f"{owner}: {' and '.join(lacking)} is missing; expected {form}.")
    return kind(tuple(given), **sizes)


def _brief(value: object) -> str:
    """A value in a message, with its type where that says more than it does."""
    return f"{value!r}"[:60] if isinstance(value, int | float | str | tuple | list) else f"a {type(value).__name__}"


def check_sizes(owner: str, sizes: Mapping[str, int | None]) -> None:
    """Raise RecipeError unless every size is a positive integer or None (an option that is off).

    Args:
        owner: name of the class being built.
        sizes: argument name -> value.

    Raises:
        RecipeError: a size is below 1.
    """
    for name, size in sizes.items():
        if size is not None and not (isinstance(size, Integral) and size >= 1):
            repair = "Leave it None for no labels." if name == "classes" else "Raise it; the default is a start."
            raise RecipeError(f"{owner}: {name} is {_brief(size)}; expected an integer of 1 or more. {repair}")


def check_dropout(owner: str, rate: float) -> None:
    """Raise RecipeError unless a dropout rate is in [0, 1).

    Raises:
        RecipeError: it is not.
    """
    if not (isinstance(rate, Real) and 0.0 <= rate < 1.0):
        raise RecipeError(f"{owner}: dropout is {_brief(rate)}; expected a probability in [0, 1). Use 0 for none.")


def check_shape(owner: str, name: str, shape: tuple[int, ...]) -> None:
    """Raise RecipeError unless a shape has at least one dimension and every one is positive.

    Args:
        owner: name of the class being built.
        name: name of the argument.
        shape: the shape of one sample.

    Raises:
        RecipeError: the shape is empty or holds a size below 1.
    """
    sizes = shape if isinstance(shape, tuple | list) else ()
    if not sizes or not all(isinstance(size, Integral) and size >= 1 for size in sizes):
        raise RecipeError(f"{owner}: {name} is {_brief(shape)}; expected positive sizes, such as (2,) or (8, 8, 1).")


def check_heights(owner: str, heights: tuple[int, ...]) -> None:
    """Raise RecipeError unless the heights at which a network attends are a tuple of whole numbers.

    Raises:
        RecipeError: they are not.
    """
    if not isinstance(heights, tuple | list) or not all(isinstance(height, Integral) for height in heights):
        raise RecipeError(
            f"{owner}: attention is {_brief(heights)}; expected image heights in pixels, such as (16,), or () for none."
        )


def check_input(owner: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise RecipeError unless a network's input has the network's shape.

    Args:
        owner: name of the network's class.
        found: shape of the input.
        expected: shape of one sample.

    Raises:
        RecipeError: they differ.
    """
    if found != expected:
        raise RecipeError(
            f"{owner} got an input of shape {found}; expected one sample of shape {expected}. "
            "Networks are written for one sample: jax.vmap over the batch."
        )


TreeT = TypeVar("TreeT", bound=PyTree)


def _dtype(kind: DTypeLike | None) -> DTypeLike | None:
    """One spelling of a type, so that equal precisions compare equal."""
    return None if kind is None else jnp.dtype(kind)


class NetworkPrecision(eqx.Module):
    """How a network is computed; what it computes is the same up to rounding. It holds no arrays.

    A denoiser keeps one for its network, and a network that has blocks keeps one for them; `with_precision` changes
    them all.

    Attributes:
        dtype: type of products and features, such as jnp.bfloat16; None for the input's. Parameters stay as they are.
        rematerialise: compute features again for the gradient, instead of keeping them: block by block in a network
            that keeps one, else the whole network at once.
    """

    dtype: DTypeLike | None = eqx.field(static=True, default=None, converter=_dtype)
    rematerialise: bool = eqx.field(static=True, default=False)

    def entered(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Features in the type of products."""
        return x if self.dtype is None else x.astype(self.dtype)

    def block(self, apply: Callable[..., Array]) -> Callable[..., Array]:
        """A block, or a network, whose features are kept for its gradient, or computed again.

        It is a call in the trace: blocks of equal shapes, and all networks of one kind, are traced once.
        """
        return eqx.filter_jit(eqx.filter_checkpoint(apply) if self.rematerialise else apply)

    def apply(
        self,
        network: AbstractNetwork,
        x: Float[Array, "*shape"],
        time: Float[Array, ""],
        condition: Condition,
        key: Key[Array, ""] | None,
    ) -> Float[Array, "*shape"]:
        """A network's prediction for one sample, in the sample's own type."""
        keeping = any(map(_is_one, jax.tree.leaves(network, is_leaf=_is_one)))  # one with blocks sees to them itself
        apply = eqx.filter_jit(network) if keeping else self.block(network)
        return apply(self.entered(x), time, condition, key).astype(x.dtype)


class AbstractWide(eqx.Module):
    """A part of a network that computes in at least 32 bits whatever the input's type, so its weights stay in 32."""


def with_precision(tree: TreeT, precision: NetworkPrecision) -> TreeT:
    """The same networks and denoisers, computed another way.

    Args:
        tree: any pytree: a teacher, a program, a network; of arrays or of shapes.
        precision: how.
    """
    return jax.tree.map(lambda node: precision if _is_one(node) else node, tree, is_leaf=_is_one)


def narrowed(tree: TreeT, dtype: DTypeLike) -> TreeT:
    """The same networks with weights in a narrow type, for those that are evaluated and never trained.

    Only what a network of that type rounds at every call is rounded, once: matrices and kernels, not
    vectors such as biases and norms' gains, and nothing of an `AbstractWide`. So a network whose wide parts are marked
    computes the same, bit for bit.

    Args:
        tree: any pytree; what is in no network stays as it is.
        dtype: a floating-point type, such as jnp.bfloat16.
    """

    def narrow(leaf: Any) -> Any:
        return leaf.astype(dtype) if eqx.is_inexact_array(leaf) and leaf.ndim > 1 else leaf

    def part(node: Any) -> Any:
        return node if isinstance(node, AbstractWide) else narrow(node)

    def network(node: Any) -> Any:
        if not isinstance(node, AbstractNetwork):
            return node
        return jax.tree.map(part, node, is_leaf=lambda inner: isinstance(inner, AbstractWide))

    return jax.tree.map(network, tree, is_leaf=lambda node: isinstance(node, AbstractNetwork))


def _is_one(node: Any) -> bool:
    return isinstance(node, NetworkPrecision)
