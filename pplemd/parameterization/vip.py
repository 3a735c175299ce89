"""Variationally inferred parameterization: the lambda under which independent normals fit best."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.dsl import Centering
from pplemd.inference import TiltedLaw
from pplemd.parameterization.base import AbstractCriterion, Situation
from pplemd.parameterization.fisher import falling_adam, within
from pplemd.parameterization.placement import Pilot, Placement

LAST = 512  # draws of q that the reported bound is the mean of


class Normals(eqx.Module):
    """q(v): independent normals in the coordinates of lam.

    Attributes:
        mean: of each coordinate.
        log_sd: logarithm of its standard deviation.
        lam: whose coordinates they are in.
    """

    mean: Float[Array, " n"]
    log_sd: Float[Array, " n"]
    lam: Centering


class VIP(AbstractCriterion):
    """Least KL(q || rho) over independent normals q and lambda at once; the law must have a density.

    The cost is -ELBO, up to the law's constant. q starts at the pilot's moments.

    Source: Gorinova, Moore & Hoffman 2020, arXiv:1906.03028 (VIP).

    Attributes:
        tied: lambda_loc = lambda_scale.
        steps: Optax steps.
        samples: draws of q for each.
        rate: Adam's learning rate at first; it falls to 0 by a cosine.
        slack: differences of the bound, in nats, that do not matter.
    """

    tied: bool = eqx.field(static=True, default=True)
    steps: int = eqx.field(static=True, default=400)
    samples: int = eqx.field(static=True, default=8)
    rate: float = eqx.field(static=True, default=0.03)
    slack: float = eqx.field(static=True, default=0.5)
    from_zero: ClassVar[bool] = False

    def fit(self, key: PRNGKeyArray, situation: Situation) -> Centering:
        """Lambda of the best bound, from lambda = 1/2."""
        law, _ = situation.needs("VIP()")
        middle = situation.placement.problem.centering(0.5)
        return _optimised(key, self, law, situation.placement, situation.pilot, middle, jnp.ones(()))[0]

    def cost(self, key: PRNGKeyArray, situation: Situation, lam: Centering) -> Float[Array, ""]:
        """The least -ELBO in the coordinates of lam."""
        law, _ = situation.needs("VIP()")
        return _optimised(key, self, law, situation.placement, situation.pilot, lam, jnp.zeros(()))[1]


@eqx.filter_jit
def _optimised(
    key: PRNGKeyArray,
    criterion: VIP,
    law: TiltedLaw,
    placement: Placement,
    pilot: Pilot,
    lam: Centering,
    free: Float[Array, ""],
) -> tuple[Centering, Float[Array, ""]]:
    """Lambda and the least -ELBO; lambda moves where `free` is 1 and stays where it is 0."""
    one = jax.tree.map(lambda rows: rows[0], pilot.u)
    unravel = ravel_pytree(one)[1]

    def used(found: Centering) -> Centering:
        tied = Centering(found.loc, found.loc) if criterion.tied else found
        own = placement.problem.honoured(tied)
        return jax.tree.map(lambda new, old: free * new + (1.0 - free) * old, own, lam)

    def loss(q: Normals, key: PRNGKeyArray, count: int) -> Array:
        target = placement.law(law, used(q.lam))
        noise = jax.random.normal(key, (count, q.mean.size))
        densities = jax.vmap(lambda eps: target.log_density(unravel(q.mean + jnp.exp(q.log_sd) * eps)))(noise)
        return -jnp.mean(densities) - jnp.sum(q.log_sd)

    v, _ = pilot.along(placement, lam)
    q = Normals(jnp.mean(v, axis=0), jnp.log(jnp.std(v, axis=0) + 1e-3), lam)  # a coordinate that never moved
    optimiser = falling_adam(criterion.rate, criterion.steps)

    def step(carry, key):
        q, state = carry
        updates, state = optimiser.update(jax.grad(loss)(q, key, criterion.samples), state)
        q = optax.apply_updates(q, updates)
        return (Normals(q.mean, q.log_sd, within(q.lam)), state), None

    key_steps, key_last = jax.random.split(key)
    keys = jax.random.split(key_steps, criterion.steps)
    (q, _), _ = jax.lax.scan(step, (q, optimiser.init(q)), keys)
    return used(q.lam), loss(q, key_last, LAST)
