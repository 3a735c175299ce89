"""The map from base coordinates u to the value z of a latent, for a NumPyro distribution."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import erfinv, log_ndtr, ndtr, ndtri
from jaxtyping import Array, Float, Key, Num, PyTree, Scalar
from numpyro.distributions import constraints, transforms

from pplemd.dsl import sticks

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


# Keyed by the exact class: a subclass may be distributed otherwise. Standard members of location-scale families,
# as pushes of u and back.
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


class LocationScale(eqx.Module):
    """theta = mu + A(1) s, with s the standard member of the family; v = loc mu + A(scale) s.

    By element A(lambda) is tau^lambda. Of a matrix scale L, lower triangular with a positive diagonal as of a
    `MultivariateNormal`, it is diag(lambda) L + diag(1 - lambda): where lambda_loc = lambda_scale, each coordinate is
    v_i = lambda_i theta_i + (1 - lambda_i) s_i. A(lambda) is lower triangular, and its diagonal lambda_i L_ii + 1 -
    lambda_i is positive for every lambda in [0, 1], so that the map is one to one. Zeros give v = s (non-centered),
    ones v = theta (centered).

    Attributes:
        mu: location, of the shape of the variable.
        tau: scale, of the same shape; or L, (*shape, n), where the last axis of the variable has n elements.
        matrix: which of both.

    Source: Papaspiliopoulos, Roberts & Skold 2007; arXiv:1906.03028. Departs: powers of the scale and shares of the
    location apart; the matrix form is ours.
    """

    mu: Float[Array, "..."]
    tau: Float[Array, "..."]
    matrix: bool = eqx.field(static=True, default=False)

    def partly(self, s: Float[Array, "..."], loc: Float[Array, "..."], scale: Float[Array, "..."]) -> Array:
        """The coordinate v at the standard member s."""
        if self.matrix:
            spread = scale * jnp.squeeze(self.tau @ s[..., None], -1) + (1.0 - scale) * s
        else:
            spread = jnp.exp(scale * self._log_tau) * s
        return loc * self.mu + spread

    def standard(self, v: Float[Array, "..."], loc: Float[Array, "..."], scale: Float[Array, "..."]) -> Array:
        """The standard member s at the coordinate v."""
        rest = v - loc * self.mu
        if not self.matrix:
            return rest * jnp.exp(-scale * self._log_tau)
        between = scale[..., None] * self.tau + (1.0 - scale)[..., None] * jnp.eye(v.shape[-1], dtype=v.dtype)
        return jnp.squeeze(solve_triangular(between, rest[..., None], lower=True), -1)

    def value(self, v: Float[Array, "..."], loc: Float[Array, "..."], scale: Float[Array, "..."]) -> Array:
        """Value of the variable at the coordinate v; by element without s, which a scale near 0 makes infinite."""
        if self.matrix:
            return self.mu + jnp.squeeze(self.tau @ self.standard(v, loc, scale)[..., None], -1)
        return self.mu + jnp.exp((1.0 - scale) * self._log_tau) * (v - loc * self.mu)

    def log_det(self, scale: Float[Array, "..."]) -> Float[Scalar, ""]:
        """log|det A(scale)|: of dv/ds, and with ones of dtheta/ds."""
        if not self.matrix:
            return jnp.sum(scale * self._log_tau)
        diagonal = jnp.diagonal(self.tau, axis1=-2, axis2=-1)
        return jnp.sum(jnp.log(scale * diagonal + (1.0 - scale)))

    @property
    def _log_tau(self) -> Array:
        return jnp.log(jnp.maximum(self.tau, jnp.finfo(self.tau.dtype).tiny))  # one that underflows stays finite


# log of the largest and the smallest normal float32 are 88.7 and -87.3: beyond, exp and sigmoid leave the support
_UNCONSTRAINED_BOUND = 87.0


@contextlib.contextmanager
def promotion() -> Iterator[None]:
    """NumPyro's own rules of ranks and types."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def scored(distribution: dist.Distribution) -> PyTree:
    """Return which values NumPyro scores: those that no mask leaves out; it broadcasts with the value."""
    if isinstance(distribution, dist.MaskedDistribution):
        mask = distribution._mask == 1  # NumPyro has no other access to it; NaN stands for what is not known
        mask = np.asarray(mask) if isinstance(mask, bool) else mask
        return mask.reshape(mask.shape + (1,) * distribution.event_dim) & scored(distribution.base_dist)
    if isinstance(distribution, dist.Independent | dist.ExpandedDistribution):
        return scored(distribution.base_dist)
    return np.asarray(True)


def innermost(distribution: dist.Distribution) -> dist.Distribution:
    """Return the distribution inside of `Independent`, `ExpandedDistribution` and `MaskedDistribution`."""
    while isinstance(distribution, dist.Independent | dist.ExpandedDistribution | dist.MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def location_scale(distribution: dist.Distribution) -> tuple[PyTree, PyTree] | None:
    """Return (loc, scale) of a location-scale family with real support, or of the base that one is transformed from.

    Of a family of vectors, such as a `MultivariateNormal`, scale is the Cholesky factor. None for other families, and
    where the transform is not one to one, so that the base cannot be recovered from the coordinates.

    Source: Gorinova, Moore & Hoffman, "Automatic Reparameterisation of Probabilistic Programs", arXiv:1906.03028.
    """
    core, parts = _unwrap(distribution)
    known = (type(core) in STANDARD or _is_matrix(core)) and has_normal_base(distribution)
    lossy = any(isinstance(part, transforms.AbsTransform | transforms.SimplexToOrderedTransform) for part in parts)
    if lossy and not known:
        return None
    if _is_matrix(core):
        return core.loc, core.scale_tril
    named = {"loc", "scale"} <= set(core.arg_constraints) and core.support is constraints.real
    return (core.loc, core.scale) if named else None


def _is_matrix(core: dist.Distribution) -> bool:
    return type(core) in (dist.MultivariateNormal, dist.MultivariateStudentT)


def _unwrap(distribution: dist.Distribution) -> tuple[dist.Distribution, list[transforms.Transform]]:
    """Return the base under every wrapper, and the transforms that its value goes through, in order."""
    core, parts = innermost(distribution), list[transforms.Transform]()
    while isinstance(core, dist.TransformedDistribution):
        parts = list(core.transforms) + parts
        core = innermost(core.base_dist)
    return core, [leaf for part in parts for leaf in getattr(part, "parts", [part])]


def has_normal_base(distribution: dist.Distribution) -> bool:
    """Whether the value is a known smooth push T(u) of standard normal noise u."""
    core = innermost(distribution)
    if isinstance(core, dist.TransformedDistribution):
        return has_normal_base(core.base_dist) and all(_is_bijective(core, part) for part in core.transforms)
    return type(core) in QUANTILES or type(core) is dist.MultivariateNormal


def _is_bijective(distribution: dist.TransformedDistribution, transform: transforms.Transform) -> bool:
    bounded = type(innermost(distribution.base_dist)) is dist.Uniform
    # a value rounded to an end of a Uniform is only safe under a map that is finite there
    return isinstance(transform, transforms.AffineTransform) or not (
        bounded or isinstance(transform, transforms.AbsTransform)
    )


def base_shape(distribution: dist.Distribution) -> tuple[int, ...]:
    """Return the shape of the base coordinates of one value."""
    if has_normal_base(distribution):
        return _noise_shape(distribution)
    return transforms.biject_to(distribution.support).inverse_shape(distribution.shape())


def _noise_shape(distribution: dist.Distribution) -> tuple[int, ...]:
    if isinstance(distribution, dist.Independent | dist.TransformedDistribution):
        return _noise_shape(distribution.base_dist)
    if isinstance(distribution, dist.ExpandedDistribution):
        base = distribution.base_dist
        return distribution.batch_shape + _noise_shape(base)[len(base.batch_shape) :]
    return distribution.shape()


def push(distribution: dist.Distribution, u: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the value z = T(u) at base coordinates u."""
    with promotion():
        if has_normal_base(distribution):
            return _push_noise(distribution, u)
        return transforms.biject_to(distribution.support)(u)


def _push_noise(distribution: dist.Distribution, u: Array) -> Array:
    if isinstance(distribution, dist.Independent | dist.ExpandedDistribution):
        return _push_noise(distribution.base_dist, u)
    if isinstance(distribution, dist.TransformedDistribution):
        z = _push_noise(distribution.base_dist, u)
        for transform in distribution.transforms:
            z = transform(z)
        return z
    if type(distribution) is dist.MultivariateNormal:
        return distribution.loc + jnp.squeeze(jnp.matmul(distribution.scale_tril, u[..., None]), axis=-1)
    return QUANTILES[type(distribution)](distribution, u)


def draw(key: Key[Array, ""], distribution: dist.Distribution) -> Float[Array, "..."]:
    """Draw base coordinates, so that ``push`` of them follows the distribution."""
    if has_normal_base(distribution):
        return jax.random.normal(key, base_shape(distribution))
    core = innermost(distribution)
    with promotion():
        bijection = transforms.biject_to(distribution.support)
        if isinstance(core, dist.Dirichlet):
            u = sticks.draw(key, core.concentration, base_shape(distribution))
        else:
            u = bijection.inv(distribution.sample(key))
    if isinstance(bijection, transforms.IdentityTransform):
        return u
    return jnp.clip(u, -_UNCONSTRAINED_BOUND, _UNCONSTRAINED_BOUND)


def moments(distribution: dist.Distribution, like: Float[Array, "..."]) -> LocationScale:
    """Return location and scale of one that `location_scale` knows, of the shape of its base coordinates.

    Args:
        distribution: one that `location_scale` knows; of a transformed one, its base is meant.
        like: an array of the shape and type of its base coordinates.
    """
    found = location_scale(distribution)
    assert found is not None, "the site is not of a location-scale family"
    matrix = _is_matrix(_unwrap(distribution)[0])
    shapes = (like.shape, (*like.shape, like.shape[-1]) if matrix else like.shape)
    mu, tau = (jnp.broadcast_to(jnp.asarray(one, like.dtype), shape) for one, shape in zip(found, shapes, strict=True))
    return LocationScale(mu, tau, matrix)


def to_base(
    distribution: dist.Distribution, v: Float[Array, "..."], loc: Float[Array, "..."], scale: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Scalar, ""]]:
    """Return (u, log|det du/dv|) at a partially centered coordinate v (see `LocationScale`).

    Args:
        distribution: one that `location_scale` knows.
        v: of the base shape.
        loc: lambda_loc, of the base shape.
        scale: lambda_scale, of the base shape.
    """
    with promotion():
        of = moments(distribution, v)
        if has_normal_base(distribution):
            u, log_slope = _standard(distribution)[1](of.standard(v, loc, scale))
            return u, jnp.sum(log_slope) - of.log_det(scale)
        return to_unconstrained(distribution, v, loc, scale)


def from_base(
    distribution: dist.Distribution, u: Float[Array, "..."], loc: Float[Array, "..."], scale: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return the partially centered coordinate v at base coordinates u: the inverse of ``to_base``."""
    with promotion():
        of = moments(distribution, u)
        if has_normal_base(distribution):
            s = _standard(distribution)[0](u)
        else:
            ones = jnp.ones_like(u)
            theta = transforms.biject_to(distribution.support)(u)
            for part in reversed(_unwrap(distribution)[1]):
                theta = part.inv(theta)
            s = of.standard(theta, ones, ones)
        return of.partly(s, loc, scale)


def _standard(distribution: dist.Distribution) -> tuple[Any, Any]:
    """From standard normal noise to the standard member of the family, and back."""
    core = _unwrap(distribution)[0]
    return STANDARD[dist.Normal if _is_matrix(core) else type(core)]


def to_unconstrained(
    distribution: dist.Distribution, v: Float[Array, "..."], loc: Float[Array, "..."], scale: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Scalar, ""]]:
    """Return NumPyro's unconstrained value and log|det| of it by v, at a partially centered coordinate v."""
    with promotion():
        of = moments(distribution, v)
        z, log_det = of.value(v, loc, scale), of.log_det(jnp.ones_like(scale)) - of.log_det(scale)
        for part in _unwrap(distribution)[1]:
            theta, z = z, part(z)
            log_det += jnp.sum(part.log_abs_det_jacobian(theta, z))
        bijection = transforms.biject_to(distribution.support)
        u = bijection.inv(z)
        return u, log_det - jnp.sum(bijection.log_abs_det_jacobian(u, z))


def log_base(distribution: dist.Distribution, u: Float[Array, "..."]) -> Float[Scalar, ""]:
    """Return the log-density of base coordinates, constants included: log N(u; 0, I) or log p(b(u)) + log|det|."""
    if has_normal_base(distribution):
        return -0.5 * jnp.sum(jnp.square(u)) - 0.5 * u.size * math.log(2.0 * math.pi)
    core = innermost(distribution)
    with promotion():
        if isinstance(core, dist.Dirichlet):
            return sticks.log_density(core.concentration, u)
        bijection = transforms.biject_to(distribution.support)
        z = bijection(u)
        return log_prior(distribution, z) + jnp.sum(bijection.log_abs_det_jacobian(u, z))


def log_prob(distribution: dist.Distribution, value: PyTree) -> Float[Array, "..."]:
    """Return log p(value), of the distribution's batch shape."""
    with promotion():
        return distribution.log_prob(value)


def sample(key: Key[Array, ""], distribution: dist.Distribution) -> Num[Array, "..."]:
    """Draw a value, discrete or not."""
    with promotion():
        return distribution.sample(key)


def log_prior(distribution: dist.Distribution, z: Float[Array, "..."]) -> Float[Scalar, ""]:
    """Return log p(z), summed over every batch dimension."""
    with promotion():
        return jnp.sum(distribution.log_prob(z))
