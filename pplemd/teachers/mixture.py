"""A mixture of Gaussians: density, score and draws exact at every noise level."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.conditions import Classes, Condition
from pplemd.errors import TeacherError
from pplemd.teachers.base import AbstractExactTeacher


class GaussianMixture(AbstractExactTeacher):
    """Sum_k w_k N(m_k, s_k^2 I); noised to sigma it is the same mixture with variances s_k^2 + sigma^2.

    With `labels=True` the components are the classes, and a label picks one; -1, the label of no class, picks none.

    Args:
        means: component means, (components, *shape).
        std: standard deviation of each component in data units, a scalar or (components,).
        weights: positive weights, scaled to sum to one; equal by default.
        conditions: whether a label conditions on one component.

    Raises:
        TeacherError: where the arrays do not fit each other or a scale is not positive; in its methods, where a label
            is given to a mixture that has none.
    """

    means: Float[Array, "components dim"]
    variances: Float[Array, " components"]
    log_weights: Float[Array, " components"]
    shape: tuple[int, ...] = eqx.field(static=True)
    condition: Classes | None = eqx.field(static=True)

    def __init__(self, means, std, weights=None, *, labels: bool = False):
        means = jnp.asarray(means, jnp.float32)
        if means.ndim < 2:
            raise TeacherError(f"a mixture needs means of shape (components, *shape); found {means.shape}.")
        count = means.shape[0]
        std = jnp.asarray(std, jnp.float32)
        weights = jnp.ones(count) if weights is None else jnp.asarray(weights, jnp.float32)
        if std.shape not in ((), (count,)) or weights.shape != (count,):
            raise TeacherError(
                f"a mixture of {count} means needs std of shape () or ({count},) and weights of shape ({count},); "
                f"found std {std.shape} and weights {weights.shape}."
            )
        if not bool(jnp.all(std > 0) & jnp.all(weights > 0)):
            raise TeacherError("a mixture needs positive std and weights; found a value that is zero, negative or NaN.")
        self.shape = means.shape[1:]
        self.condition = Classes(count) if labels else None
        self.means = means.reshape(count, -1)
        self.variances = jnp.broadcast_to(std**2, (count,))
        self.log_weights = jnp.log(weights / weights.sum())

    def log_density(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
    ) -> Float[Array, ""]:
        """Log of the noised mixture's density, normalised."""
        return jax.nn.logsumexp(self._log_densities(x_sigma, sigma) + self._log_weights(condition))

    def score(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
    ) -> Float[Array, "..."]:
        """Sum over components of their posterior weight times (m_k - x_sigma) / (s_k^2 + sigma^2)."""
        variances = self.variances + sigma**2
        offsets = self.means - x_sigma.reshape(1, -1)
        posterior = jax.nn.softmax(self._log_densities(x_sigma, sigma) + self._log_weights(condition))
        return ((posterior / variances) @ offsets).reshape(self.shape)

    def draw(self, key: PRNGKeyArray, condition: Condition = None) -> Float[Array, "..."]:
        """A component, then a point of it."""
        key_component, key_point = jax.random.split(key)
        component = jax.random.categorical(key_component, self._log_weights(condition))
        point = jax.random.normal(key_point, self.means.shape[1:])
        return (self.means[component] + jnp.sqrt(self.variances[component]) * point).reshape(self.shape)

    def _log_densities(self, x_sigma: Float[Array, "..."], sigma: Float[Array, ""]) -> Float[Array, " components"]:
        """Log density of each noised component, normalised."""
        variances = self.variances + sigma**2
        squares = jnp.sum((x_sigma.reshape(1, -1) - self.means) ** 2, axis=-1)
        return -0.5 * (squares / variances + self.means.shape[1] * jnp.log(2 * jnp.pi * variances))

    def _log_weights(self, condition: Condition) -> Float[Array, " components"]:
        """Log weight of each component given a class; of a class that is no component's, NaN."""
        if condition is None:
            return self.log_weights
        if self.classes is None:
            raise TeacherError(
                "a mixture without classes was given a condition; expected none. Build it with "
                "GaussianMixture(..., labels=True) to let a label pick a component."
            )
        picked = jnp.where(jnp.arange(self.classes) == condition, 0.0, -jnp.inf)
        known = jnp.where((condition >= 0) & (condition < self.classes), picked, jnp.nan)
        return jnp.where(condition == -1, self.log_weights, known)
