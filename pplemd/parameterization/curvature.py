"""The curvature rule, with curvatures from the scores of draws."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from pplemd.dsl import Centering
from pplemd.parameterization.base import AbstractCriterion
from pplemd.parameterization.fisher import winsorised
from pplemd.parameterization.placement import Change, Pilot, Placement, flat

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
