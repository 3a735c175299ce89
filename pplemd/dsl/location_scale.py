"""Partially centered coordinates of one location-scale variable, by element or with a matrix scale."""

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Scalar


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
