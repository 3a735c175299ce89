"""Weights of a squared error as a function of the noise level."""

import math
from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from pplemd.errors import RecipeError


class AbstractWeighting(eqx.Module):
    """A positive weight of the squared error at each noise level."""

    @abstractmethod
    def __call__(self, sigma: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the weight at each noise level.

        Args:
            sigma: noise s.d. in data units, positive, any shape.

        Returns:
            The weights, same shape.
        """


def _check_sigma_data(owner: str, sigma_data: float) -> None:
    if not 0 < sigma_data < math.inf:
        raise RecipeError(
            f"{owner}: sigma_data is {sigma_data}; expected the s.d. of the data, above 0. "
            "Pass the s.d. of the training set (about 0.5 for images in [-1, 1])."
        )


class EDMWeight(AbstractWeighting):
    """`(sigma^2 + sigma_data^2) / (sigma sigma_data)^2`: unit weight on the error of the preconditioned network.

    Args:
        sigma_data: s.d. of the data, data units.

    Raises:
        RecipeError: sigma_data is not positive.

    Source: arXiv:2206.00364, Table 1, lambda(sigma).
    """

    sigma_data: float = eqx.field(static=True, converter=float)

    def __check_init__(self) -> None:
        _check_sigma_data("EDMWeight", self.sigma_data)

    def __call__(self, sigma: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return `1 / sigma^2 + 1 / sigma_data^2`, the same thing."""
        return 1 / sigma**2 + 1 / self.sigma_data**2


class UniformWeight(AbstractWeighting):
    """1 at every level. As v(sigma) of the generator's loss it weights the divergence by `w(sigma) = sigma^2`."""

    def __call__(self, sigma: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return ones."""
        return jnp.ones_like(sigma)


class PowerWeight(AbstractWeighting):
    """`sigma^exponent`. As v(sigma) of the generator's loss, exponent -2 weights the divergence equally at all levels.

    Args:
        exponent: any finite number.

    Raises:
        RecipeError: the exponent is not finite.
    """

    exponent: float = eqx.field(static=True, converter=float)

    def __check_init__(self) -> None:
        if not math.isfinite(self.exponent):
            raise RecipeError(f"PowerWeight: exponent is {self.exponent}; expected a finite number, usually -2 to 0.")

    def __call__(self, sigma: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the power of each level."""
        return sigma**self.exponent


class InverseVarianceWeight(AbstractWeighting):
    """`1 / (sigma^2 + sigma_data^2)`: equal weight on the error relative to the noised data's variance.

    Args:
        sigma_data: s.d. of the data, data units.

    Raises:
        RecipeError: sigma_data is not positive.
    """

    sigma_data: float = eqx.field(static=True, converter=float)

    def __check_init__(self) -> None:
        _check_sigma_data("InverseVarianceWeight", self.sigma_data)

    def __call__(self, sigma: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Return the inverse variance at each level."""
        return 1 / (sigma**2 + self.sigma_data**2)
