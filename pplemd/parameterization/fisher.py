"""The coordinates of a problem's latents as a family, and criteria that choose among them by the scores of draws."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from pplemd.dsl import AbstractLatents, Centering, Problem
from pplemd.errors import RecipeError
from pplemd.inference import TiltedTarget, transformed

Values = dict[str, Array]


class Placement(eqx.Module):
    """A program whose latents may be moved in partially centered coordinates.

    Attributes:
        problem: the traced program.
        program: its networks; its own arrays, or an EMA of them.
    """

    problem: AbstractLatents
    program: PyTree

    def __check_init__(self) -> None:
        if not self.sites:
            raise RecipeError(
                f"{self.problem.name} has no site that can be centered or not: none is of a location-scale family "
                "with real support whose loc or scale depends on a latent or a trained array. Leave it as it is."
            )

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the eligible sites."""
        return tuple(site.name for site in self.problem.sites if site.eligible)

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the eligible sites whose lambda the program leaves to be chosen."""
        return tuple(site.name for site in self.problem.sites if site.free)

    def of(self, row: Int[Array, ""] | None) -> "Placement":
        """The placement of a draw: of its row of the program's plate."""
        if row is None:
            return self
        assert isinstance(self.problem, Problem)  # NumPyro's models have no minibatches
        return Placement(self.problem.at({self.problem.plates[0].name: row[None]}), self.program)

    def target(self, target: TiltedTarget, lam: Centering) -> TiltedTarget:
        """A target of base coordinates u, in the coordinates v of lam."""
        return transformed(target, Change(self, lam))


class Change(eqx.Module):
    """One change of coordinates, v -> (u, log|det du/dv|), and its inverse.

    Attributes:
        placement: whose.
        lam: which.
    """

    placement: Placement
    lam: Centering

    def __call__(self, v: Values) -> tuple[Values, Float[Array, ""]]:
        """Base coordinates at v, and the log-determinant."""
        return self.placement.problem.to_base(self.placement.program, v, self.lam)

    def inverse(self, u: Values) -> Values:
        """V at base coordinates u."""
        return self.placement.problem.from_base(self.placement.program, u, self.lam)


class Pilot(eqx.Module):
    """Draws with their scores, in base coordinates; each leaf with a leading dimension draw.

    Attributes:
        u: base coordinates by site.
        score: gradient of log rho at u, that of the base included.
        rows: the row of the program's plate that each draw is of, where it is traced for one row.
        groups: of targets of their own, such as rows: as many equal parts of the draws, one after the other.
    """

    u: Values
    score: Values
    rows: Int[Array, " draw"] | None = None
    groups: int = eqx.field(static=True, default=1)

    def along(self, placement: Placement, lam: Centering) -> tuple[Float[Array, "draw n"], Float[Array, "draw n"]]:
        """The same draws and their scores in the coordinates of lam, flat, without an evaluation of the target.

        The pull-back of v -> (u, log|det du/dv|) on (score, 1). Where there are groups, both are less their means.
        """

        def one(u: Values, score: Values, row: Array | None) -> tuple[Array, Array]:
            change = Change(placement.of(row), lam)
            v = change.inverse(u)
            (_, log_det), pull = jax.vjp(change, v)
            (moved,) = pull((score, jnp.ones_like(log_det)))
            return flat(v), flat(moved)

        v, moved = jax.vmap(one)(self.u, self.score, self.rows)
        return self.within_groups(v), self.within_groups(moved)

    def within_groups(self, x: Float[Array, "draw n"]) -> Float[Array, "draw n"]:
        """What is left of each group's numbers when their mean is taken away; as they are where there is one group."""
        if self.groups == 1:
            return x
        parts = x.reshape(self.groups, -1, x.shape[1])
        return (parts - jnp.mean(parts, axis=1, keepdims=True)).reshape(x.shape)


@eqx.filter_jit
def scored(target: TiltedTarget, u: Values) -> Pilot:
    """A pilot of draws in base coordinates, with their scores under a target, evaluated once each."""
    return Pilot(u, jax.vmap(target.score)(u))


def flat(values: Values) -> Float[Array, " n"]:
    """All elements in one row, sites by name."""
    return ravel_pytree(values)[0]


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
