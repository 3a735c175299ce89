"""Maps from a standard normal u to scalar families: z = F^-1(Phi(u)), written so that float32 tails survive.

Phi(u) rounds to 1 in float32 from u = 5.4 on, where F^-1 is infinite. Every map below therefore works with Phi of
the negative side or with log Phi, and holds for |u| < 13, where Phi leaves the normal float32 numbers.
Source: inverse transform sampling, Devroye, Non-Uniform Random Variate Generation (1986), section II.2.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import erfinv, log_ndtr, ndtr, ndtri
from jaxtyping import Array, Float

Quantile = Callable[[Any, Float[Array, "..."]], Float[Array, "..."]]


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


# Keyed by the exact class: a subclass may have another law.
QUANTILES: Mapping[type, Quantile] = MappingProxyType(
    {
        dist.Normal: _loc_scale(lambda u: u),
        dist.Laplace: _loc_scale(_laplace),
        dist.Cauchy: _loc_scale(_cauchy),
        dist.Logistic: _loc_scale(_logistic),
        dist.Gumbel: _loc_scale(_gumbel),
        dist.HalfNormal: _scale(_half_normal),
        dist.HalfCauchy: _scale(_half_cauchy),
        dist.Uniform: _uniform,
        dist.Exponential: _exponential,
        dist.Weibull: _weibull,
    }
)
