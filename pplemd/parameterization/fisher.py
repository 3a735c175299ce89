"""Criteria of coordinates by the scores of draws: a Fisher divergence, and the curvature rule."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from pplemd.dsl import Centering
from pplemd.parameterization.placement import Change, Pilot, Placement, flat


class AbstractCriterion(eqx.Module):
    """Decides how centered each element is, from draws with scores.

    Attributes:
        slack: differences of cost up to here do not matter, whatever the cost.
    """

    slack: eqx.AbstractVar[float]

    @abstractmethod
    def fit(self, placement: Placement, pilot: Pilot) -> Centering:
        """The lambdas of least cost.

        Args:
            placement: the program whose latents are placed.
            pilot: draws with scores; 100 or more.
        """

    @abstractmethod
    def cost(self, placement: Placement, pilot: Pilot, lam: Centering) -> Float[Array, ""]:
        """What it costs to sample in the coordinates of lam, in the criterion's own unit, 0 or more; less is better."""


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


LARGEST = 1 - 1e-6  # share, so that 1 - share is a number of 32 bits


@eqx.filter_jit
def shares(placement: Placement, pilot: Pilot, tail: float = 0.01) -> dict[str, Float[Array, "..."]]:
    """Kappa of each element of each eligible site: the share of its conditional precision that is not the prior's.

    With s = (theta - mu) / tau and l = d/ds of log rho less its prior's part, E[-dl/ds] = E[l g] for any distribution
    (Stein's identity), g the whole score; kappa = E[l g] / (1 + E[l g]), which is tau^2 / (tau^2 - 1 / beta) for
    Gaussians.

    Args:
        placement: whose sites.
        pilot: draws and scores.
        tail: share winsorised on either side.
    """
    sites = [site for site in placement.problem.sites if site.eligible]
    zeros = {site.name: jnp.zeros(site.base_shape, site.dtype) for site in sites}
    standard = Centering(zeros, zeros)  # of sites that declare another lambda too: s is in s.d. of the prior
    _, score = pilot.along(placement, standard)

    def prior(u: dict[str, Array], row: Array | None) -> Array:
        of = placement.of(row)
        change = Change(of, standard)

        def log_prior(v: dict[str, Array]) -> Array:
            u, log_det = change(v)
            return of.problem.log_base(of.program, u) + log_det

        return flat(jax.grad(log_prior)(change.inverse(u)))

    priors = pilot.within_groups(jax.vmap(prior)(pilot.u, pilot.rows))
    rest, whole = winsorised(score - priors, tail), winsorised(score, tail)
    information = jnp.maximum(jnp.mean((rest - jnp.mean(rest, axis=0, keepdims=True)) * whole, axis=0), 0.0)
    by_site = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], pilot.u))[1]
    found = by_site(jnp.minimum(information / (1.0 + information), LARGEST))
    return {name: found[name] for name in placement.sites}


class Curvature(AbstractCriterion):
    """Each element centered or not by the curvature rule, s^2 > -1 / beta; that is, where kappa > 1/2.

    The cost is sum_j (lambda_loc - kappa)^2 / (1 - kappa): by how much, in units of the prior's precision, knowing the
    elements' coordinates ties their parent down. It is least at kappa, and less at 1 than at 0 where kappa > 1/2.

    Source: Kingma & Welling, arXiv:1402.0480; Papaspiliopoulos, Roberts & Skold 2007.

    Attributes:
        partial: lambda_loc = kappa, lambda_scale = kappa (2 - kappa) / (3 - 2 kappa) instead of 0 or 1.
        tail: share of draws winsorised on either side.
        slack: differences of cost that do not matter.
    """

    partial: bool = eqx.field(static=True, default=False)
    tail: float = eqx.field(static=True, default=0.01)
    slack: float = eqx.field(static=True, default=0.0)

    def fit(self, placement: Placement, pilot: Pilot) -> Centering:
        """By kappa of each element."""
        share = shares(placement, pilot, self.tail)
        if self.partial:
            return best_for_gaussians(share)
        ends = {name: (one > 0.5).astype(one.dtype) for name, one in share.items()}
        return Centering(ends, ends)

    def cost(self, placement: Placement, pilot: Pilot, lam: Centering) -> Float[Array, ""]:
        """How far lambda is from kappa."""
        share = shares(placement, pilot, self.tail)
        terms = [jnp.sum((lam.loc[name] - one) ** 2 / (1.0 - one)) for name, one in share.items()]
        return jnp.sum(jnp.stack(terms))


def best_for_gaussians(share: dict[str, Float[Array, "..."]]) -> Centering:
    """The lambdas of least Fisher divergence in a Gaussian hierarchy, theta ~ N(mu, tau), y ~ N(theta, error).

    lambda_loc = kappa: then v does not depend on mu. No lambda_scale makes v independent of t = log tau: given t, the
    logarithm of its s.d. has slope a = lambda_scale - kappa, its mean slope b = kappa (y - mu) (lambda_scale - 2 kappa
    + 1), which alone would be 0 at 2 kappa - 1. To second order in the spread of t, D grows by 3 a^2 + b^2 / Var(v|t),
    where on average over y ~ N(mu, tau^2 + error^2) the last is kappa / (1 - kappa) (lambda_scale - 2 kappa + 1)^2. The
    least D is at lambda_scale = kappa (2 - kappa) / (3 - 2 kappa).

    Args:
        share: kappa of each element, by site.
    """
    return Centering(share, {name: one * (2.0 - one) / (3.0 - 2.0 * one) for name, one in share.items()})
