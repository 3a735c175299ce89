"""Preconditioning of networks older than EDM's: what they are told, and how their output becomes a denoiser."""

from abc import abstractmethod
from enum import Enum

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pplemd.diffusion.convert import AbstractConvention, VPSchedule
from pplemd.diffusion.precondition import Preconditioning
from pplemd.errors import RecipeError


class AbstractCoefficients(AbstractConvention):
    """The coefficients of `D(x_sigma, sigma) = skip x_sigma + out F(scale_in x_sigma, noise)` at every sigma."""

    @abstractmethod
    def at(self, sigma: Float[Array, ""]) -> Preconditioning:
        """The four coefficients at one noise level, in data units."""


class ContinuousVP(AbstractCoefficients):
    """A network that predicts the noise of a variance-preserving diffusion in continuous time t in (0, 1].

    `sigma(t)^2 = exp(beta_slope t^2 / 2 + beta_low t) - 1`; the network is told (steps - 1) t.

    Attributes:
        beta_slope: growth of the rate of noise over a unit of time.
        beta_low: rate of noise at time 0.
        steps: number of steps that a unit of time stands for.

    Source: arXiv:2206.00364, table 1, column VP.
    """

    beta_slope: float = eqx.field(static=True, default=19.9)
    beta_low: float = eqx.field(static=True, default=0.1)
    steps: int = eqx.field(static=True, default=1000)

    @property
    def predicts_noise(self) -> bool:
        """True."""
        return True

    def at(self, sigma: Float[Array, ""]) -> Preconditioning:
        """See AbstractCoefficients."""
        root = jnp.sqrt(self.beta_low**2 + 2 * self.beta_slope * jnp.log1p(sigma**2))
        time = (root - self.beta_low) / self.beta_slope
        return Preconditioning(jnp.ones_like(sigma), -sigma, 1 / jnp.sqrt(1 + sigma**2), (self.steps - 1) * time)


class PlainVE(AbstractCoefficients):
    """A network that predicts minus the noise of a variance-exploding diffusion, and is told log(sigma / 2).

    Source: arXiv:2206.00364, table 1, column VE.
    """

    @property
    def predicts_noise(self) -> bool:
        """True."""
        return True

    def at(self, sigma: Float[Array, ""]) -> Preconditioning:
        """See AbstractCoefficients."""
        one = jnp.ones_like(sigma)
        return Preconditioning(one, sigma, one, jnp.log(0.5 * sigma))


class DiscreteVP(AbstractCoefficients):
    """A network that predicts the noise at the nearest of a number of levels, and is told which one.

    Attributes:
        levels: noise levels, falling, the last one 0; the network is told `len(levels) - 2 - index`.

    Raises:
        RecipeError: levels that do not fall to 0.

    Source: arXiv:2206.00364, table 1, column iDDPM.
    """

    levels: tuple[float, ...] = eqx.field(static=True)

    def __check_init__(self) -> None:
        levels = np.asarray(self.levels)
        if levels.size < 2 or not np.all(np.isfinite(levels)) or levels[-1] != 0 or np.any(np.diff(levels) >= 0):
            raise RecipeError(
                f"DiscreteVP: {levels.size} levels from {levels[:1]} to {levels[-1:]}; expected two or more that fall "
                "to 0. Leave them to cosine_levels()."
            )

    @property
    def predicts_noise(self) -> bool:
        """True."""
        return True

    def at(self, sigma: Float[Array, ""]) -> Preconditioning:
        """See AbstractCoefficients."""
        nearest = jnp.argmin(jnp.abs(sigma - jnp.asarray(self.levels, sigma.dtype)))
        number = (len(self.levels) - 2 - nearest).astype(sigma.dtype)
        return Preconditioning(jnp.ones_like(sigma), -sigma, 1 / jnp.sqrt(1 + sigma**2), number)


class Prediction(Enum):
    """What a variance-preserving network predicts, by diffusers' names."""

    EPS = "epsilon"
    CLEAN = "sample"
    VELOCITY = "v_prediction"  # alpha_t eps - sqrt(1 - alpha_t^2) x: arXiv:2202.00512, section 4


class StepVP(AbstractCoefficients):
    """A network trained at time steps of a variance-preserving schedule, told the fractional step of a sigma.

    `x_t = alpha x_sigma` with `alpha = 1 / sqrt(1 + sigma^2)`; then D is `x_sigma - sigma eps`, or the prediction, or
    `alpha^2 x_sigma - alpha sigma v`. The same as `VPEps`, `VPClean` and `VPVelocity` around the network.

    Attributes:
        schedule: of its time steps.
        prediction: what it predicts.

    Source: arXiv:2006.11239, equation 12; arXiv:2202.00512, appendix D.
    """

    schedule: VPSchedule
    prediction: Prediction = eqx.field(static=True, default=Prediction.EPS)

    @property
    def predicts_noise(self) -> bool:
        """Unless it predicts the clean sample."""
        return self.prediction is not Prediction.CLEAN

    def at(self, sigma: Float[Array, ""]) -> Preconditioning:
        """See AbstractCoefficients."""
        alpha, one = 1 / jnp.sqrt(1 + sigma**2), jnp.ones_like(sigma)
        skip, out = {
            Prediction.EPS: (one, -sigma),
            Prediction.CLEAN: (jnp.zeros_like(sigma), one),
            Prediction.VELOCITY: (alpha**2, -alpha * sigma),
        }[self.prediction]
        return Preconditioning(skip, out, alpha, self.schedule.time(sigma))


class StepFlow(AbstractCoefficients):
    """A network that predicts eps - x at `x_s = (1 - s) x + s eps`, `s = sigma / (1 + sigma)`, told `steps s`.

    Attributes:
        steps: number of time steps.

    Source: arXiv:2210.02747, equations 20-23 with sigma_min = 0, time from data to noise.
    """

    steps: int = eqx.field(static=True, default=1000)

    @property
    def predicts_noise(self) -> bool:
        """True."""
        return True

    def at(self, sigma: Float[Array, ""]) -> Preconditioning:
        """See AbstractCoefficients."""
        noise = sigma / (1 + sigma)
        return Preconditioning(1 - noise, -noise, 1 - noise, self.steps * noise)


def cosine_levels(steps: int = 1000, floor: float = 0.001, offset: float = 0.008) -> tuple[float, ...]:
    """Noise levels of the cosine schedule, falling to 0: `steps + 1` of them.

    `u_{j-1}^2 + 1 = (u_j^2 + 1) / max(a_{j-1} / a_j, floor)`, u_steps = 0, with
    `a_j = sin^2(pi j / (2 steps (1 + offset)))`.

    Args:
        steps: number of steps.
        floor: least ratio of two successive a.
        offset: keeps the first steps from being too small.

    Source: arXiv:2206.00364, table 1 and appendix C.3.4; arXiv:2102.09672, section 3.2.
    """
    a = np.sin(0.5 * np.pi * np.arange(steps + 1) / steps / (1 + offset)) ** 2
    ratios = np.maximum(a[:-1] / a[1:], floor)
    excess = np.concatenate([np.cumprod(1 / ratios[::-1])[::-1], [1.0]])
    return tuple(float(level) for level in np.sqrt(excess - 1))
