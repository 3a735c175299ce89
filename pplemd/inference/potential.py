"""What tilts the base: an energy U(x), known by its value or by its gradient alone."""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float


class AbstractPotential(eqx.Module):
    """U(x), up to a constant."""

    @abstractmethod
    def gradient(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Gradient of U at one x."""


class Potential(AbstractPotential):
    """A potential whose value is known.

    Attributes:
        value: U, from one x to a scalar.
    """

    value: Callable[[Array], Array]

    def gradient(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Gradient of U, by automatic differentiation."""
        return jax.grad(self.value)(x)


class ScorePotential(AbstractPotential):
    """A potential known through its gradient alone, as between a teacher's and a student's score.

    Attributes:
        slope: the gradient of U, from one x to an array of its shape.
    """

    slope: Callable[[Array], Array]

    def gradient(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Gradient of U, as given."""
        return self.slope(x)
