"""A network as a teacher: EDM's preconditioned denoiser, or an older preconditioning in place of EDM's."""

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.conditions import AbstractCondition, Condition
from pplemd.diffusion import AbstractCoefficients, precondition
from pplemd.networks import AbstractNetwork, NetworkPrecision
from pplemd.teachers.base import AbstractDenoiser


class Denoiser(AbstractDenoiser):
    """D(x_sigma, sigma) = c_skip x_sigma + c_out F(c_in x_sigma, c_noise), F a network.

    The student's score network is one of these too.

    Source: arXiv:2206.00364, equation 7 and table 1.

    Attributes:
        network: F, called as network(x, time, condition).
        sigma_data: standard deviation of the clean data, in data units.
        precision: how the network is computed; the coefficients and their products are in x_sigma's own type.
    """

    network: AbstractNetwork
    sigma_data: float = eqx.field(static=True)
    precision: NetworkPrecision = eqx.field(
        default=NetworkPrecision(), repr=False
    )  # not shown: of no effect on what is computed

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one x: the network's."""
        return self.network.shape

    @property
    def condition(self) -> AbstractCondition | None:
        """The form of what conditions the law: the network's."""
        return self.network.condition

    def denoise(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """Posterior mean of x given x_sigma, by the network."""
        at = precondition(sigma, self.sigma_data)
        return at.skip * x_sigma + at.out * self.precision.apply(
            self.network, at.scale_in * x_sigma, at.noise, condition, key
        )


class Preconditioned(AbstractDenoiser):
    """D(x_sigma, sigma) = skip x_sigma + out F(scale_in x_sigma, noise), F a network of any preconditioning.

    For EDM's there is `Denoiser`.

    Source: arXiv:2206.00364, equation 7 and table 1.

    Attributes:
        network: F, called as network(x, time, condition).
        coefficients: the four coefficients by noise level.
        precision: how the network is computed; the coefficients and their products are in x_sigma's own type.
    """

    network: AbstractNetwork
    coefficients: AbstractCoefficients
    precision: NetworkPrecision = eqx.field(
        default=NetworkPrecision(), repr=False
    )  # not shown: of no effect on what is computed

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one x: the network's."""
        return self.network.shape

    @property
    def condition(self) -> AbstractCondition | None:
        """The form of what conditions the law: the network's."""
        return self.network.condition

    def denoise(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """Posterior mean of x given x_sigma, by the network."""
        at = self.coefficients.at(sigma)
        return at.skip * x_sigma + at.out * self.precision.apply(
            self.network, at.scale_in * x_sigma, at.noise, condition, key
        )
