"""Other noise conventions and schedules, converted at the door to a denoiser `D(x_sigma, sigma, condition)`."""

import functools
import inspect
from abc import abstractmethod
from collections.abc import Callable, Sequence
from enum import Enum

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pplemd.conditions import Condition
from pplemd.diffusion.scores import Preconditioning, denoised_from_score
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


MOST = 0.999  # of a beta of the cosine schedule: arXiv:2102.09672, section 3.2
OFFSET = 0.008  # the same source
STEEPNESS = 6.0  # the logistic curve is taken from -6 to 6: arXiv:2203.02923, its code
LAST = (
    0.25  # of the alpha^2 before it, in place of 0 at the last step, whose sigma would have no end: twice that before
)


def schedule_of(betas: Sequence[float] | Float[np.ndarray, " steps"], zero_snr: bool = False) -> VPSchedule:
    """Return the schedule `alpha_t^2 = prod_{s <= t} (1 - beta_s)`.

    Args:
        betas: variances of the steps' noise, each in (0, 1).
        zero_snr: shift and scale alpha_t so that nothing of the data is left at the last step.

    Raises:
        RecipeError: the betas do not give a schedule.

    Source: arXiv:2006.11239, equation 4; arXiv:2305.08891, algorithm 1 (zero_snr).

    Departs: with zero_snr something is left at the last step, whose sigma is twice that of the one before: it must end.
    """
    squares = np.cumprod(1 - np.asarray(betas, np.float64))
    if zero_snr and squares.size > 1:
        roots = np.sqrt(squares)
        roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
        squares = np.append(roots[:-1] ** 2, LAST * roots[-2] ** 2)
    return VPSchedule(tuple(float(square) for square in squares))


def linear_betas(steps: int, low: float, high: float) -> Float[np.ndarray, " steps"]:
    """Betas that are linear. Source: arXiv:2006.11239, section 4."""
    return np.linspace(low, high, steps)


def scaled_linear_betas(steps: int, low: float, high: float) -> Float[np.ndarray, " steps"]:
    """Betas whose square roots are linear. Source: arXiv:2112.10752's code."""
    return np.linspace(low**0.5, high**0.5, steps) ** 2


def cosine_betas(steps: int, most: float = MOST) -> Float[np.ndarray, " steps"]:
    """Betas of `alpha_t^2 = cos^2(pi / 2 (t / steps + .008) / 1.008)`, none above the most.

    Source: arXiv:2102.09672, section 3.2, equation 17.
    """
    squares = np.cos((np.arange(steps + 1) / steps + OFFSET) / (1 + OFFSET) * np.pi / 2) ** 2
    return np.minimum(1 - squares[1:] / squares[:-1], most)


def sigmoid_betas(steps: int, low: float, high: float) -> Float[np.ndarray, " steps"]:
    """Betas on a logistic curve between the ends. Source: arXiv:2203.02923, its code."""
    return low + (high - low) / (1 + np.exp(-np.linspace(-STEEPNESS, STEEPNESS, steps)))


class AbstractCoefficients(AbstractConvention):
    """The coefficients of `D(x_sigma, sigma) = skip x_sigma + out F(scale_in x_sigma, noise)` at every sigma."""

    @abstractmethod
    def at(self, sigma: Float[Array, ""]) -> Preconditioning:
        """The four coefficients at one noise level, in data units."""


class ContinuousVP(AbstractCoefficients):
    """A network that predicts the noise of a variance-preserving diffusion in continuous time t in (0, 1].

    `sigma(t)^2 = exp(beta_slope t^2 / 2 + beta_low t) - 1`; the network gets (steps - 1) t.

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
    """A network that predicts minus the noise of a variance-exploding diffusion, and gets log(sigma / 2).

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
    """A network that predicts the noise at the nearest of a number of levels, and gets which one.

    Attributes:
        levels: noise levels, falling, the last one 0; the network gets `len(levels) - 2 - index`.

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
    """A network trained at time steps of a variance-preserving schedule, given the fractional step of a sigma.

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
    """A network that predicts eps - x at `x_s = (1 - s) x + s eps`, `s = sigma / (1 + sigma)`, given `steps s`.

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
