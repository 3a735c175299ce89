"""Other noise conventions, converted at the door to a denoiser `D(x_sigma, sigma, condition)`.

Each record holds a network in its own convention and is itself callable as a denoiser of `x_sigma = x + sigma * eps`.
Write networks for one sample; vmap the record to batch it. A model with reversed time or sign (`n - x1`) is wrapped
in a function that turns it first.
"""

import functools
import inspect
from abc import abstractmethod
from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pplemd.conditions import Condition
from pplemd.diffusion.scores import denoised_from_score
from pplemd.errors import RecipeError

NetworkFn = Callable[..., Array]  # network(x_t, time, condition) -> prediction of x_t's shape


def _floats(values: Sequence[float] | np.ndarray | Array) -> tuple[float, ...]:
    return tuple(float(value) for value in np.asarray(values).reshape(-1))


class VPSchedule(eqx.Module):
    """A discrete variance-preserving schedule `x_t = alpha_t x + sqrt(1 - alpha_t^2) eps`, as its cumulative alphas.

    Args:
        alphas_cumprod: alpha_t^2 for t = 0, 1, ..., decreasing, each in (0, 1).

    Raises:
        RecipeError: fewer than two steps, a value outside (0, 1), or values that do not decrease.

    Source: arXiv:2006.11239, equation 4.
    """

    alphas_cumprod: tuple[float, ...] = eqx.field(static=True, converter=_floats)  # static: a constant, never trained

    def __check_init__(self) -> None:
        alphas = np.asarray(self.alphas_cumprod)
        if alphas.size < 2 or alphas.max() >= 1 or alphas.min() <= 0 or (np.diff(alphas) >= 0).any():
            raise RecipeError(
                f"alphas_cumprod has {alphas.size} values from {alphas[:1]} to {alphas[-1:]}; expected two or more, "
                "strictly decreasing, each in (0, 1). Pass the cumulative product of 1 - beta, not beta itself."
            )

    @property
    def sigmas(self) -> np.ndarray:
        """The noise s.d. in data units of each step, `sqrt((1 - alpha^2) / alpha^2)`, increasing, shape (steps,)."""
        alphas = np.asarray(self.alphas_cumprod)
        return np.sqrt((1 - alphas) / alphas)

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and highest noise s.d. that the schedule covers, in data units."""
        sigmas = self.sigmas
        return float(sigmas[0]), float(sigmas[-1])

    def scaled(self, factor: float) -> "VPSchedule":
        """Return the schedule whose noise levels are these times a factor: the same steps, of data in other units."""
        return VPSchedule(_floats(1 / (1 + (factor * self.sigmas) ** 2)))

    def time(self, sigma: Float[Array, ""] | float) -> Float[Array, ""]:
        """Return the fractional step index of a noise level, linear in log(sigma) between steps, clamped at the ends.

        Args:
            sigma: noise s.d. in data units, positive.

        Returns:
            The index t in [0, steps - 1], a float.
        """
        sigma = jnp.asarray(sigma)
        knots, widths = (jnp.asarray(each, sigma.dtype) for each in (self.sigmas, np.diff(np.log(self.sigmas))))
        below = jnp.clip(jnp.searchsorted(knots, sigma, side="right") - 1, 0, len(widths) - 1)
        # of the ratio, not a difference of logarithms: the time of a step's own sigma is the step, to the last digit
        fraction = jnp.log(sigma / knots[below]) / widths[below]
        return jnp.clip(below.astype(sigma.dtype) + fraction, 0, len(widths))


def linear_schedule(steps: int = 1000, beta_low: float = 1e-4, beta_high: float = 0.02) -> VPSchedule:
    """Return the schedule with beta linear from beta_low to beta_high.

    Args:
        steps: number of steps, 2 or more.
        beta_low: first beta.
        beta_high: last beta.

    Returns:
        The schedule `alpha_t^2 = prod_{s <= t} (1 - beta_s)`.

    Raises:
        RecipeError: the betas do not give a schedule.

    Source: arXiv:2006.11239, section 4.
    """
    return VPSchedule(_floats(np.cumprod(1 - np.linspace(beta_low, beta_high, steps))))


class AbstractConvention(eqx.Module):
    """In what terms a network speaks of noise, and what of the sample it predicts."""

    @property
    @abstractmethod
    def predicts_noise(self) -> bool:
        """Whether the noise is a part of what is predicted, so that the denoiser's error falls with sigma.

        True of eps, of velocities, of a score; False of a network that predicts the clean sample itself.
        """


def record_of(function: Callable[..., object]) -> object:
    """The record that a function is, also where it is compiled, partial, or a method of one; any other as it is."""
    if inspect.ismethod(function):  # first: a method shows what wraps its function, too
        return function.__self__
    if isinstance(function, functools.partial):
        return record_of(function.func)
    inner = inspect.unwrap(function, stop=lambda one: inspect.ismethod(one) or isinstance(one, functools.partial))
    return function if inner is function else record_of(inner)


class VPEps(AbstractConvention):
    """Denoiser from a network that predicts the noise: `D = x_sigma - sigma eps(x_t, t)`, `x_t = alpha_t x_sigma`.

    Source: arXiv:2006.11239, equation 12, with `sigma = sqrt(1 - alpha_t^2) / alpha_t`.
    """

    network: NetworkFn  # eps(x_t, t, condition), t a fractional step index
    schedule: VPSchedule

    @property
    def predicts_noise(self) -> bool:
        """True."""
        return True

    def __call__(
        self, x_sigma: Float[Array, "*shape"], sigma: Float[Array, ""] | float, condition: Condition = None
    ) -> Float[Array, "*shape"]:
        """Return the denoised sample, data units; sigma in data units."""
        alpha = 1 / jnp.sqrt(1 + jnp.asarray(sigma) ** 2)
        return x_sigma - sigma * self.network(alpha * x_sigma, self.schedule.time(sigma), condition)


class VPVelocity(AbstractConvention):
    """Denoiser from a v-prediction `v = alpha_t eps - sigma_t x`: `D = alpha_t x_t - sigma_t v(x_t, t)`.

    Source: arXiv:2202.00512, section 4 and appendix D.
    """

    network: NetworkFn  # v(x_t, t, condition), t a fractional step index
    schedule: VPSchedule

    @property
    def predicts_noise(self) -> bool:
        """True."""
        return True

    def __call__(
        self, x_sigma: Float[Array, "*shape"], sigma: Float[Array, ""] | float, condition: Condition = None
    ) -> Float[Array, "*shape"]:
        """Return the denoised sample, data units; sigma in data units."""
        alpha = 1 / jnp.sqrt(1 + jnp.asarray(sigma) ** 2)
        x_t = alpha * x_sigma
        return alpha * x_t - alpha * sigma * self.network(x_t, self.schedule.time(sigma), condition)


class VPClean(AbstractConvention):
    """Denoiser from a network that predicts the clean sample: `D = x0(x_t, t)`, `x_t = alpha_t x_sigma`."""

    network: NetworkFn  # x0(x_t, t, condition), t a fractional step index
    schedule: VPSchedule

    @property
    def predicts_noise(self) -> bool:
        """False."""
        return False

    def __call__(
        self, x_sigma: Float[Array, "*shape"], sigma: Float[Array, ""] | float, condition: Condition = None
    ) -> Float[Array, "*shape"]:
        """Return the denoised sample, data units; sigma in data units."""
        alpha = 1 / jnp.sqrt(1 + jnp.asarray(sigma) ** 2)
        return self.network(alpha * x_sigma, self.schedule.time(sigma), condition)


class FlowVelocity(AbstractConvention):
    """Denoiser from a flow-matching velocity `v = x1 - n` on `x_t = t x1 + (1 - t) n`: `D = x_t + (1 - t) v(x_t, t)`.

    The noise level is `sigma = (1 - t) / t`, so `t = 1 / (1 + sigma)` and `x_t = t x_sigma`.

    Source: arXiv:2210.02747, equations 20-23 with sigma_min = 0.
    """

    network: NetworkFn  # v(x_t, t, condition), t in (0, 1), 1 at the data

    @property
    def predicts_noise(self) -> bool:
        """True."""
        return True

    def __call__(
        self, x_sigma: Float[Array, "*shape"], sigma: Float[Array, ""] | float, condition: Condition = None
    ) -> Float[Array, "*shape"]:
        """Return the denoised sample, data units; sigma in data units."""
        time = 1 / (1 + jnp.asarray(sigma))
        x_t = time * x_sigma
        return x_t + (1 - time) * self.network(x_t, time, condition)


class FlowClean(AbstractConvention):
    """Denoiser from a network that predicts the data end of a flow: `D = x1(x_t, t)`, `x_t = t x_sigma`."""

    network: NetworkFn  # x1(x_t, t, condition), t in (0, 1), 1 at the data

    @property
    def predicts_noise(self) -> bool:
        """False."""
        return False

    def __call__(
        self, x_sigma: Float[Array, "*shape"], sigma: Float[Array, ""] | float, condition: Condition = None
    ) -> Float[Array, "*shape"]:
        """Return the denoised sample, data units; sigma in data units."""
        time = 1 / (1 + jnp.asarray(sigma))
        return self.network(time * x_sigma, time, condition)


class VEScore(AbstractConvention):
    """Denoiser from a network that predicts the score in variance-exploding coordinates: `D = x_sigma + sigma^2 s`.

    Source: arXiv:2011.13456, section 3.4; arXiv:2206.00364, equation 3.
    """

    network: NetworkFn  # s(x_sigma, sigma, condition)

    @property
    def predicts_noise(self) -> bool:
        """True."""
        return True

    def __call__(
        self, x_sigma: Float[Array, "*shape"], sigma: Float[Array, ""] | float, condition: Condition = None
    ) -> Float[Array, "*shape"]:
        """Return the denoised sample, data units; sigma in data units."""
        return denoised_from_score(self.network(x_sigma, sigma, condition), x_sigma, sigma)


class Rescaled(AbstractConvention):
    """Denoiser of `x = scale u + shift` from a denoiser of u, such as one of images in [0, 1] for images in [-1, 1].

    `D(x_sigma, sigma) = scale D_u((x_sigma - shift) / scale, sigma / scale) + shift`: noise scales with the data.
    """

    denoiser: NetworkFn  # D_u(u_sigma, sigma, condition), any of the records above
    scale: float = eqx.field(static=True)  # positive
    shift: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not self.scale > 0:
            raise RecipeError(f"Rescaled: scale is {self.scale}; expected a positive factor from u to x, such as 2.")

    @property
    def predicts_noise(self) -> bool:
        """As the denoiser of u."""
        inner_record = record_of(self.denoiser)
        return isinstance(inner_record, AbstractConvention) and inner_record.predicts_noise

    def __call__(
        self, x_sigma: Float[Array, "*shape"], sigma: Float[Array, ""] | float, condition: Condition = None
    ) -> Float[Array, "*shape"]:
        """Return the denoised sample, in x's units; sigma in x's units."""
        inner = self.denoiser((x_sigma - self.shift) / self.scale, jnp.asarray(sigma) / self.scale, condition)
        return self.scale * inner + self.shift
