"""The contract of a time-conditioned network."""

from abc import abstractmethod
from collections.abc import Mapping

import equinox as eqx
from jaxtyping import Array, Float, Int, Key

from pplemd.errors import RecipeError

Label = Int[Array, ""] | int | None


class AbstractNetwork(eqx.Module):
    """A map from a noised sample, its noise level and a label to an array of the sample's shape.

    Every array leaf of a network is a trainable parameter.
    """

    shape: eqx.AbstractVar[tuple[int, ...]]  # of one sample: (d,) or (h, w, c)
    classes: eqx.AbstractVar[int | None]  # number of labels, None where the network takes none

    @abstractmethod
    def __call__(
        self,
        x: Float[Array, "*shape"],
        time: Float[Array, ""] | float,
        label: Label = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "*shape"]:
        """Return the raw prediction for one sample.

        Args:
            x: the network's input, of the network's shape; vmap to batch.
            time: what the network is told of the noise level, of order 1: log(sigma) / 4 in the EDM convention.
            label: class index in [0, classes); None or -1 for no label.
            key: randomness of dropout while training; None for the deterministic network.

        Returns:
            The prediction, of x's shape and dtype.

        Raises:
            RecipeError: x is not of the network's shape, or a label is given to a network without classes.
        """


def check_sizes(owner: str, sizes: Mapping[str, int | None]) -> None:
    """Raise RecipeError unless every size is a positive integer or None (an option that is off).

    Args:
        owner: name of the class being built.
        sizes: argument name -> value.

    Raises:
        RecipeError: a size is below 1.
    """
    for name, size in sizes.items():
        if size is not None and size < 1:
            repair = "Leave it None for no labels." if name == "classes" else "Raise it; the default is a start."
            raise RecipeError(f"{owner}: {name} is {size}; expected an integer of 1 or more. {repair}")


def check_dropout(owner: str, rate: float) -> None:
    """Raise RecipeError unless a dropout rate is in [0, 1).

    Raises:
        RecipeError: it is not.
    """
    if not 0.0 <= rate < 1.0:
        raise RecipeError(f"{owner}: dropout is {rate}; expected a probability in [0, 1). Use 0 for none.")


def check_shape(owner: str, name: str, shape: tuple[int, ...]) -> None:
    """Raise RecipeError unless a shape has at least one dimension and every one is positive.

    Args:
        owner: name of the class being built.
        name: name of the argument.
        shape: the shape of one sample.

    Raises:
        RecipeError: the shape is empty or holds a size below 1.
    """
    if not shape or min(shape) < 1:
        raise RecipeError(f"{owner}: {name} is {shape}; expected positive sizes, such as (2,) or (8, 8, 1).")


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
