"""The curvature rule, with curvatures from the scores of draws."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.dsl import Centering, Problem
from pplemd.parameterization.base import AbstractCriterion, Situation
from pplemd.parameterization.closed_forms import best_for_gaussians
from pplemd.parameterization.fisher import winsorised
from pplemd.parameterization.placement import Change, Pilot, Placement, flat

LARGEST = 1 - 1e-6  # share, so that 1 - share is a number of 32 bits


def noncentered(problem: Problem) -> Centering:
    """Lambda 0 for every eligible site, for those that declare another one too: s of the rule is in prior s.d."""
    zeros = {site.name: jnp.zeros(site.base_shape, site.dtype) for site in problem.sites if site.eligible}
    return Centering(zeros, zeros)


@eqx.filter_jit
def shares(placement: Placement, pilot: Pilot, tail: float = 0.01) -> dict[str, Float[Array, "..."]]:
    """Kappa of each element of each eligible site: the share of its conditional precision that is not the prior's.

    With s = (theta - mu) / tau and l = d/ds of log rho less its prior's part, E[-dl/ds] = E[l g] for any law (Stein's
    identity), g the whole score; kappa = E[l g] / (1 + E[l g]), which is tau^2 / (tau^2 - 1 / beta) for Gaussians.

    Args:
        placement: whose sites.
        pilot: draws and scores.
        tail: share winsorised on either side.
    """
    standard = noncentered(placement.problem)
    v, score = pilot.along(placement, standard)

    def prior(u: dict[str, Array], label: Array | None, row: Array | None) -> Array:
        of = placement.of(label, row)
        change = Change(of, standard)

        def log_prior(v: dict[str, Array]) -> Array:
            u, log_det = change(v)
            return of.problem.log_base(of.program, u, of.label) + log_det

        return flat(jax.grad(log_prior)(change.inverse(u)))

    priors = pilot.within_groups(jax.vmap(prior)(pilot.u, pilot.labels, pilot.rows))
    rest = winsorised(score - priors, tail)
    whole = winsorised(score, tail)
    told = jnp.maximum(jnp.mean((rest - jnp.mean(rest, axis=0, keepdims=True)) * whole, axis=0), 0.0)
    return _by_site(placement, jnp.minimum(told / (1.0 + told), LARGEST))


def _by_site(placement: Placement, row: Array) -> dict[str, Array]:
    shapes = {site.name: site.base_shape for site in placement.problem.sites}
    found, begin = {}, 0
    for name in sorted(shapes):
        size = int(jnp.zeros(shapes[name]).size)
        if name in placement.sites:
            found[name] = row[begin : begin + size].reshape(shapes[name])
        begin += size
    return found


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
    from_zero: ClassVar[bool] = True

    def fit(self, key: PRNGKeyArray, situation: Situation) -> Centering:
        """By kappa of each element."""
        share = _shares(self, situation.placement, situation.pilot)
        if self.partial:
            return best_for_gaussians(share)
        ends = {name: (one > 0.5).astype(one.dtype) for name, one in share.items()}
        return Centering(ends, ends)

    def cost(self, key: PRNGKeyArray, situation: Situation, lam: Centering) -> Float[Array, ""]:
        """How far lambda is from kappa."""
        share = _shares(self, situation.placement, situation.pilot)
        terms = [jnp.sum((lam.loc[name] - one) ** 2 / (1.0 - one)) for name, one in share.items()]
        return jnp.sum(jnp.stack(terms))


@eqx.filter_jit
def _shares(criterion: Curvature, placement: Placement, pilot: Pilot) -> dict[str, Array]:
    return shares(placement, pilot, criterion.tail)
