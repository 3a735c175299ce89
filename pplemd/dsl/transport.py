"""The map from base coordinates u to the value z of a latent, for a NumPyro distribution.

Where the distribution is a push of standard normal noise of a known form, u ~ N(0, I) and z = T(u) ("normal").
Elsewhere u is the unconstrained value itself, z = b(u) with NumPyro's bijection b onto the support, and the base
density is log p(b(u)) + log|det db/du| ("prior"). All functions take one sample; parameters may be traced.
NumPyro relies on JAX's promotion of ranks and dtypes, which a caller may have turned off: it is on around its calls.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Key, Num, Scalar
from numpyro.distributions import constraints, transforms

from pplemd.dsl import sticks
from pplemd.dsl.quantiles import QUANTILES, STANDARD

# log of the largest and the smallest normal float32 are 88.7 and -87.3: beyond, exp and sigmoid leave the support
_UNCONSTRAINED_BOUND = 87.0


@contextlib.contextmanager
def promotion() -> Iterator[None]:
    """NumPyro's own rules of ranks and types."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def scored(distribution: dist.Distribution) -> Any:
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


def location_scale(distribution: dist.Distribution) -> tuple[Any, Any] | None:
    """Return (loc, scale) of a location-scale family with real support, or of the base that one is transformed from.

    None too where the transform is not one to one, so that the base cannot be recovered from the coordinates.

    Source: Gorinova, Moore & Hoffman, "Automatic Reparameterisation of Probabilistic Programs", arXiv:1906.03028.
    """
    core, parts = _unwrap(distribution)
    named = {"loc", "scale"} <= set(core.arg_constraints)
    known = type(core) in STANDARD and has_normal_base(distribution)
    lossy = any(isinstance(part, transforms.AbsTransform | transforms.SimplexToOrderedTransform) for part in parts)
    return (core.loc, core.scale) if named and core.support is constraints.real and (known or not lossy) else None


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


def place(
    distribution: dist.Distribution, v: Float[Array, "..."], loc: Float[Array, "..."], scale: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Scalar, ""]]:
    """Return (u, log|det du/dv|) at a partially centered coordinate v.

    v = loc mu + tau^scale s, where s = (theta - mu) / tau is the standard member of the family, theta the value (of a
    transformed distribution: of its base), mu and tau its location and scale. loc = scale = 0 is non-centered: v = s;
    loc = scale = 1 is centered: v = theta.

    Args:
        distribution: one that `location_scale` knows.
        v: of the base shape.
        loc: lambda_loc, of the base shape.
        scale: lambda_scale, of the base shape.

    Source: arXiv:1906.03028. Departs: powers of the scale and shares of the location apart.
    """
    with promotion():
        mu, log_tau = _moments(distribution, v)
        s = (v - loc * mu) * jnp.exp(-scale * log_tau)
        if has_normal_base(distribution):
            u, log_slope = STANDARD[type(_unwrap(distribution)[0])][1](s)
            return u, jnp.sum(log_slope - scale * log_tau)
        u, log_det = _to_unconstrained(distribution, mu + jnp.exp(log_tau) * s)
        return u, jnp.sum((1.0 - scale) * log_tau) + log_det


def displace(
    distribution: dist.Distribution, u: Float[Array, "..."], loc: Float[Array, "..."], scale: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return the partially centered coordinate v at base coordinates u: the inverse of ``place``."""
    with promotion():
        mu, log_tau = _moments(distribution, u)
        if has_normal_base(distribution):
            s = STANDARD[type(_unwrap(distribution)[0])][0](u)
        else:
            s = (_from_unconstrained(distribution, u) - mu) * jnp.exp(-log_tau)
        return loc * mu + jnp.exp(scale * log_tau) * s


def _moments(distribution: dist.Distribution, u: Array) -> tuple[Array, Array]:
    """Location and log scale of the base, by element of the base coordinates."""
    found = location_scale(distribution)
    assert found is not None, "the site is not of a location-scale family"
    mu, tau = (jnp.broadcast_to(jnp.asarray(parameter, u.dtype), u.shape) for parameter in found)
    return mu, jnp.log(jnp.maximum(tau, jnp.finfo(u.dtype).tiny))  # a scale that underflows keeps lambda = 0 finite


def _to_unconstrained(distribution: dist.Distribution, theta: Array) -> tuple[Array, Array]:
    """From the value of the base under every transform to NumPyro's unconstrained value, and log|det|."""
    z, log_det = theta, jnp.zeros((), theta.dtype)
    for part in _unwrap(distribution)[1]:
        theta, z = z, part(z)
        log_det += jnp.sum(part.log_abs_det_jacobian(theta, z))
    bijection = transforms.biject_to(distribution.support)
    u = bijection.inv(z)
    return u, log_det - jnp.sum(bijection.log_abs_det_jacobian(u, z))


def _from_unconstrained(distribution: dist.Distribution, u: Array) -> Array:
    theta = transforms.biject_to(distribution.support)(u)
    for part in reversed(_unwrap(distribution)[1]):
        theta = part.inv(theta)
    return theta


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


def log_prob(distribution: dist.Distribution, value: Any) -> Float[Array, "..."]:
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
