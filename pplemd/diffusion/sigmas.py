"""Distributions of the noise level that training draws from, and weights of a squared error by noise level."""

import math
from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.errors import RecipeError

Progress = Float[Array, ""] | float


class AbstractSigmas(eqx.Module):
    """A distribution of sigma, the noise s.d. in data units, that may depend on how far training is."""

    @abstractmethod
    def sample(self, key: Key[Array, ""], shape: tuple[int, ...], progress: Progress) -> Float[Array, "..."]:
        """Draw noise levels.

        Args:
            key: random key.
            shape: shape of the draw.
            progress: fraction of training done, in [0, 1]; may be traced.

        Returns:
            Noise s.d. in data units, positive, of the given shape.
        """

    @property
    @abstractmethod
    def span(self) -> tuple[float, float]:
        """The range of sigma over all of training, in data units, for grids and reports."""


def _check_limits(owner: str, low: float, high: float) -> None:
    if not 0 < low < high < math.inf:
        raise RecipeError(
            f"{owner}: the limits are ({low}, {high}); expected 0 < low < high, finite, in data units. "
            "Swap them or raise the lower one above 0."
        )


class LogNormal(AbstractSigmas):
    """`log sigma ~ Normal(mean, std)`, whatever the progress.

    Args:
        mean: mean of log sigma.
        std: s.d. of log sigma, positive.

    Raises:
        RecipeError: std is not positive and finite, or mean is not finite.

    Source: arXiv:2206.00364, Table 1 (P_mean = -1.2, P_std = 1.2).
    """

    mean: float = eqx.field(static=True, converter=float, default=-1.2)
    std: float = eqx.field(static=True, converter=float, default=1.2)

    def __check_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise RecipeError(
                f"LogNormal: mean {self.mean}, std {self.std}; expected a finite mean and a positive std of log sigma. "
                "Usual values are -1.2 and 1.2."
            )

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...], progress: Progress) -> Float[Array, "..."]:
        """Draw `exp(mean + std n)` with standard normal n."""
        return jnp.exp(self.mean + self.std * jax.random.normal(key, shape))

    @property
    def span(self) -> tuple[float, float]:
        """`exp(mean -+ 3 std)`: 99.7 % of the draws."""
        return math.exp(self.mean - 3 * self.std), math.exp(self.mean + 3 * self.std)


class LogUniform(AbstractSigmas):
    """`log sigma ~ Uniform(log low, log high)`, whatever the progress.

    Args:
        low: lowest sigma, data units, positive.
        high: highest sigma, data units.

    Raises:
        RecipeError: the limits are not 0 < low < high.
    """

    low: float = eqx.field(static=True, converter=float)
    high: float = eqx.field(static=True, converter=float)

    def __check_init__(self) -> None:
        _check_limits("LogUniform", self.low, self.high)

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...], progress: Progress) -> Float[Array, "..."]:
        """Draw `low (high / low)^u` with u uniform on [0, 1)."""
        unit = jax.random.uniform(key, shape)
        return jnp.exp(math.log(self.low) + unit * math.log(self.high / self.low))

    @property
    def span(self) -> tuple[float, float]:
        """The two limits."""
        return self.low, self.high


class KarrasUniform(AbstractSigmas):
    """`sigma^(1/rho)` uniform from `low` up to the share `until` of the way to `high`, whatever the progress.

    Args:
        low: lowest sigma, data units, positive.
        high: highest sigma if `until` were 1, data units.
        until: share of the way that is used, in (0, 1].
        rho: how far levels crowd at the low end; 1 is uniform sigma.

    Raises:
        RecipeError: the limits are not 0 < low < high, until is not in (0, 1], or rho is not positive.

    Source: arXiv:2404.04057, section 4 (time uniform up to t_max = 800 of 1,000 on the grid of arXiv:2206.00364).
    """

    low: float = eqx.field(static=True, converter=float, default=0.002)
    high: float = eqx.field(static=True, converter=float, default=80.0)
    until: float = eqx.field(static=True, converter=float, default=0.8)
    rho: float = eqx.field(static=True, converter=float, default=7.0)

    def __check_init__(self) -> None:
        _check_limits("KarrasUniform", self.low, self.high)
        if not (0 < self.until <= 1 and 0 < self.rho < math.inf):
            raise RecipeError(
                f"KarrasUniform: until is {self.until}, rho is {self.rho}; expected a share in (0, 1] and a positive "
                "finite rho. Usual values are 0.8 and 7."
            )

    def at(self, unit: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The level at a share of the way used, 0 for the lowest."""
        low, high = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        return (low + self.until * unit * (high - low)) ** self.rho

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...], progress: Progress) -> Float[Array, "..."]:
        """Draw a uniform share of the way."""
        return self.at(jax.random.uniform(key, shape))

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest level that is drawn."""
        top = self.low ** (1 / self.rho) + self.until * (self.high ** (1 / self.rho) - self.low ** (1 / self.rho))
        return self.low, top**self.rho


def _pair(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return float(low), float(high)


class CoarseToFine(AbstractSigmas):
    """Log-uniform sigma whose limits slide geometrically from `start` to `end` by the fraction `until` of training.

    Args:
        start: (low, high) at progress 0, data units.
        end: (low, high) from progress `until` on, data units.
        until: the progress at which the slide ends, in (0, 1].

    Raises:
        RecipeError: a pair is not 0 < low < high, or until is not in (0, 1].

    Source: the annealing that let a generator of random weights find every mode of a 2-D ring; the defaults are for
    data of s.d. about 3, modes of s.d. 0.15.
    """

    start: tuple[float, float] = eqx.field(static=True, converter=_pair, default=(1.0, 6.0))
    end: tuple[float, float] = eqx.field(static=True, converter=_pair, default=(0.08, 2.5))
    until: float = eqx.field(static=True, converter=float, default=0.7)

    def __check_init__(self) -> None:
        _check_limits("CoarseToFine start", *self.start)
        _check_limits("CoarseToFine end", *self.end)
        if not 0 < self.until <= 1:
            raise RecipeError(
                f"CoarseToFine: until is {self.until}; expected a fraction of training in (0, 1]. "
                "Use 1.0 to slide through all of training, or LogUniform for limits that do not move."
            )

    @classmethod
    def spanning(cls, radius: float, detail: float, until: float = 0.7) -> "CoarseToFine":
        """The slide for a student that starts at random: from (radius / 4, 1.5 radius) to (detail / 2, 0.6 radius).

        At 1.5 radius the noise merges all modes, and every one pulls at every sample; at detail / 2 it blurs none. The
        upper limit stays near the radius to the end: only there do the scores compare the weights of modes far apart.

        Args:
            radius: root mean squared distance of the data from their mean, data units: of the whole vector, not of
                one coordinate.
            detail: s.d. of the finest structure to keep, data units.
            until: the progress at which the slide ends, in (0, 1].

        Returns:
            The distribution.

        Raises:
            RecipeError: not 0 < detail < radius, or until is not in (0, 1].

        Source: measured on mixtures in 2, 10 and 64 dimensions; `models/ring.py` is one.
        """
        if not 0 < detail < radius < math.inf:
            raise RecipeError(
                f"CoarseToFine.spanning: radius is {radius}, detail {detail}; expected 0 < detail < radius, finite, in "
                "data units. The radius is that of all the data, the detail the s.d. within one mode."
            )
        return cls((radius / 4, 1.5 * radius), (detail / 2, 0.6 * radius), until)

    def limits(self, progress: Progress) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return (log low, log high) at a progress in [0, 1]."""
        done = jnp.clip(jnp.asarray(progress, float) / self.until, 0, 1)
        low, high = (
            (1 - done) * math.log(first) + done * math.log(last)
            for first, last in zip(self.start, self.end, strict=True)
        )
        return low, high

    def sample(self, key: Key[Array, ""], shape: tuple[int, ...], progress: Progress) -> Float[Array, "..."]:
        """Draw log-uniform sigma between the limits of this progress."""
        low, high = self.limits(progress)
        return jnp.exp(jax.random.uniform(key, shape, minval=low, maxval=high))

    @property
    def span(self) -> tuple[float, float]:
        """The lowest and the highest limit over all of training."""
        return min(self.start[0], self.end[0]), max(self.start[1], self.end[1])


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
