"""Fisher divergence between a target and the nearest independent normals, from draws with scores."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from pplemd.dsl import Centering
from pplemd.parameterization.base import AbstractCriterion
from pplemd.parameterization.placement import Pilot, Placement

GRID = (0.0, 0.25, 0.5, 0.75, 1.0)  # where the search may start


def divergence(v: Float[Array, "draw n"], score: Float[Array, "draw n"]) -> Float[Array, ""]:
    """D = 2 sum_i [sqrt(Var v_i Var g_i) + Cov(v_i, g_i)]: what the best diagonal scaling leaves.

    At least 0, and 0 for independent Gaussians alone. Of E|g + (v - m) / s^2|^2 s^2 summed over coordinates, the
    least over means m and variances s^2.

    Source: Seyboldt, Carlson & Carpenter 2026, arXiv:2603.18845 (diagonal scalings by Fisher divergence).
    """
    spread, covariance = _moments(v, score)
    return 2.0 * jnp.sum(_root(spread[0] * spread[1]) + covariance)


def isotropic_divergence(v: Float[Array, "draw n"], score: Float[Array, "draw n"]) -> Float[Array, ""]:
    """D where one step size serves all coordinates: 2 [sqrt(sum Var v_i sum Var g_i) + sum Cov(v_i, g_i)]."""
    spread, covariance = _moments(v, score)
    return 2.0 * (_root(jnp.sum(spread[0]) * jnp.sum(spread[1])) + jnp.sum(covariance))


def winsorised(x: Float[Array, "draw n"], tail: float) -> Float[Array, "draw n"]:
    """The outer shares `tail` of each column, on both sides, moved to the quantiles where they begin."""
    if tail == 0.0:
        return x
    low, high = jnp.quantile(x, tail, axis=0, keepdims=True), jnp.quantile(x, 1.0 - tail, axis=0, keepdims=True)
    return jnp.minimum(jnp.maximum(x, jnp.broadcast_to(low, x.shape)), jnp.broadcast_to(high, x.shape))


def _moments(v: Array, score: Array) -> tuple[Array, Array]:
    """Variances of v and score, and their covariances, by coordinate."""
    both = jnp.stack([v, score])
    centered = both - jnp.mean(both, axis=1, keepdims=True)
    return jnp.mean(centered**2, axis=1), jnp.mean(centered[0] * centered[1], axis=0)


def _root(x: Array) -> Array:
    """The root; with slope 0 at 0, where the variance of a coordinate that never moved is."""
    moved = x > 0
    return jnp.where(moved, jnp.sqrt(jnp.where(moved, x, 1.0)), 0.0)


class Fisher(AbstractCriterion):
    """The default: fits lambda by the Fisher divergence of pilot draws, which works where only scores are known.

    Attributes:
        tied: lambda_loc = lambda_scale.
        isotropic: the kernel has one step size for all coordinates.
        tail: share of draws winsorised on either side of each coordinate and score.
        steps: Optax steps.
        rate: Adam's learning rate at first; it falls to 0 by a cosine.
        slack: differences of D, in nats of scores, that do not matter.
    """

    tied: bool = eqx.field(static=True, default=True)
    isotropic: bool = eqx.field(static=True, default=False)
    tail: float = eqx.field(static=True, default=0.01)
    steps: int = eqx.field(static=True, default=100)
    rate: float = eqx.field(static=True, default=0.05)
    slack: float = eqx.field(static=True, default=0.5)

    @eqx.filter_jit
    def fit(self, placement: Placement, pilot: Pilot) -> Centering:
        """The least D, by projected Adam from the best of a grid."""
        problem = placement.problem

        def own(lam: Centering) -> Centering:
            return problem.honoured(Centering(lam.loc, lam.loc) if self.tied else lam)

        def cost(lam: Centering) -> Array:
            return self.of(placement, pilot, own(lam))

        optimiser = optax.adam(optax.cosine_decay_schedule(self.rate, self.steps))
        grid = jax.tree.map(lambda *rows: jnp.stack(rows), *[problem.centering(number) for number in GRID])
        first = jax.tree.map(lambda rows: rows[jnp.argmin(jax.lax.map(cost, grid))], grid)

        def step(carry, _):
            lam, state, best, least = carry
            value, slope = jax.value_and_grad(cost)(lam)
            best = jax.tree.map(lambda new, old: jnp.where(value < least, new, old), lam, best)
            with jax.numpy_dtype_promotion("standard"):  # Optax mixes integers with floats
                updates, state = optimiser.update(jax.tree.map(jnp.nan_to_num, slope), state)
            lam = jax.tree.map(lambda leaf, by: jnp.clip(leaf + by, 0.0, 1.0), lam, updates)
            return (lam, state, best, jnp.minimum(value, least)), None

        start = (first, optimiser.init(first), first, jnp.asarray(jnp.inf))
        (_, _, best, _), _ = jax.lax.scan(step, start, length=self.steps)
        return own(best)

    @eqx.filter_jit
    def cost(self, placement: Placement, pilot: Pilot, lam: Centering) -> Float[Array, ""]:
        """D of the pilot's draws in the coordinates of lam."""
        return self.of(placement, pilot, lam)

    def of(self, placement: Placement, pilot: Pilot, lam: Centering) -> Float[Array, ""]:
        """D(lambda), differentiable in lambda."""
        v, score = (winsorised(x, self.tail) for x in pilot.along(placement, lam))
        return (isotropic_divergence if self.isotropic else divergence)(v, score)
