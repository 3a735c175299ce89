"""Maps from a standard normal u to scalar families: z = F^-1(Phi(u)), written so that float32 tails survive.

Phi(u) rounds to 1 in float32 from u = 5.4 on, where F^-1 is infinite. Every map below therefore works with Phi of
the negative side or with log Phi, and holds for |u| < 13, where Phi leaves the normal float32 numbers.
Source: inverse transform sampling, Devroye, Non-Uniform Random Variate Generation (1986), section II.2.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import erfinv, log_ndtr, ndtr, ndtri
from jaxtyping import Array, Float

Quantile = Callable[[Any, Float[Array, "..."]], Float[Array, "..."]]
Standard = Callable[[Float[Array, "..."]], Float[Array, "..."]]
Score = Callable[[Float[Array, "..."]], tuple[Float[Array, "..."], Float[Array, "..."]]]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_SMALLEST = 1.2e-38  # normal float32 numbers end here, at u = -12.9


def _broadcast(parameter: Any, u: Array) -> Array:
    return jnp.broadcast_to(jnp.asarray(parameter, u.dtype), u.shape)


def _loc_scale(standard: Callable[[Array], Array]) -> Quantile:
    return lambda d, u: _broadcast(d.loc, u) + _broadcast(d.scale, u) * standard(u)


def _scale(standard: Callable[[Array], Array]) -> Quantile:
    return lambda d, u: _broadcast(d.scale, u) * standard(u)


def _log_phi(u: Array) -> Array:
    # log_ndtr takes log(1 - small) for 0 < u < 5, which loses all digits of the small
    lower, upper = jnp.where(u < 0, u, 0.0), jnp.where(u < 0, 0.0, u)
    return jnp.where(u < 0, log_ndtr(lower), jnp.log1p(-ndtr(-upper)))


def _laplace(u: Array) -> Array:
    # the same value on both sides of 0; a branch, because |u| has no derivative there
    return jnp.where(u < 0, jnp.log(2.0) + log_ndtr(u), -jnp.log(2.0) - log_ndtr(-u))


def _cauchy(u: Array) -> Array:
    tail = jnp.pi * ndtr(jnp.where(u < 0, u, -u))
    return jnp.where(u < 0, -1.0, 1.0) * jnp.cos(tail) / jnp.sin(tail)


def _logistic(u: Array) -> Array:
    return _log_phi(u) - _log_phi(-u)


def _gumbel(u: Array) -> Array:
    return -jnp.log(-_log_phi(u))


def _half_normal(u: Array) -> Array:
    lower, upper = jnp.where(u < 0, u, 0.0), jnp.where(u < 0, 0.0, u)
    return jnp.where(u < 0, jnp.sqrt(2.0) * erfinv(ndtr(lower)), -ndtri(0.5 * ndtr(-upper)))


def _half_cauchy(u: Array) -> Array:
    lower, upper = jnp.where(u < 0, u, 0.0), jnp.where(u < 0, 0.0, u)
    return jnp.where(u < 0, jnp.tan(0.5 * jnp.pi * ndtr(lower)), 1.0 / jnp.tan(0.5 * jnp.pi * ndtr(-upper)))


def _uniform(d: Any, u: Array) -> Array:
    low, high = _broadcast(d.low, u), _broadcast(d.high, u)
    # from the nearer end, so that neither tail is rounded away before it is added
    return jnp.where(u < 0, low + (high - low) * ndtr(u), high - (high - low) * ndtr(-u))


def _exponential(d: Any, u: Array) -> Array:
    return -_log_phi(-u) / _broadcast(d.rate, u)


def _weibull(d: Any, u: Array) -> Array:
    return _broadcast(d.scale, u) * (-_log_phi(-u)) ** (1.0 / _broadcast(d.concentration, u))


def _normal_score(tails: Callable[[Array], tuple[Array, Array]], log_density: Standard) -> Score:
    """The inverse of a standard quantile: s -> (u, log du/ds), u = Phi^-1(F(s)).

    Args:
        tails: s -> (F(s), 1 - F(s)), the smaller of them with all its digits.
        log_density: of F, with its constant.
    """

    @jax.custom_jvp
    def normal(s: Array) -> Array:
        lower, upper = (jnp.maximum(tail, _SMALLEST) for tail in tails(s))
        return jnp.where(lower < upper, ndtri(lower), -ndtri(upper))

    def log_slope(s: Array, u: Array) -> Array:
        return log_density(s) + 0.5 * jnp.square(u) + _HALF_LOG_TWO_PI

    @normal.defjvp
    def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        # dF = phi(u) du; differentiating ndtri's rational functions would lose digits
        u = normal(primals[0])
        return u, jnp.exp(log_slope(primals[0], u)) * tangents[0]

    def score(s: Array) -> tuple[Array, Array]:
        u = normal(s)
        return u, log_slope(s, u)

    return score


def _laplace_tails(s: Array) -> tuple[Array, Array]:
    small = 0.5 * jnp.exp(-jnp.abs(s))
    return jnp.where(s < 0, small, 1.0 - small), jnp.where(s < 0, 1.0 - small, small)


def _cauchy_tails(s: Array) -> tuple[Array, Array]:
    return jnp.arctan2(jnp.ones_like(s), -s) / jnp.pi, jnp.arctan2(jnp.ones_like(s), s) / jnp.pi


def _gumbel_tails(s: Array) -> tuple[Array, Array]:
    rate = jnp.exp(-s)
    return jnp.exp(-rate), -jnp.expm1(-rate)


# Keyed by the exact class: a subclass may have another law. Standard members of location-scale families, as pushes of
# u and back.
STANDARD: Mapping[type, tuple[Standard, Score]] = MappingProxyType(
    {
        dist.Normal: (lambda u: u, lambda s: (s, jnp.zeros_like(s))),
        dist.Laplace: (_laplace, _normal_score(_laplace_tails, lambda s: -jnp.abs(s) - math.log(2.0))),
        dist.Cauchy: (
            _cauchy,
            _normal_score(_cauchy_tails, lambda s: -2.0 * jnp.log(jnp.hypot(s, jnp.ones_like(s))) - math.log(math.pi)),
        ),
        dist.Logistic: (
            _logistic,
            _normal_score(lambda s: (jax.nn.sigmoid(s), jax.nn.sigmoid(-s)), lambda s: -s - 2.0 * jax.nn.softplus(-s)),
        ),
        dist.Gumbel: (_gumbel, _normal_score(_gumbel_tails, lambda s: -s - jnp.exp(-s))),
    }
)
QUANTILES: Mapping[type, Quantile] = MappingProxyType(
    {
        **{family: _loc_scale(standard) for family, (standard, _) in STANDARD.items()},
        dist.HalfNormal: _scale(_half_normal),
        dist.HalfCauchy: _scale(_half_cauchy),
        dist.Uniform: _uniform,
        dist.Exponential: _exponential,
        dist.Weibull: _weibull,
    }
)
