"""Short runs in given coordinates: what a kernel draws there, and at what price."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from pplemd.dsl import Centering
from pplemd.errors import RecipeError
from pplemd.inference import AbstractKernel, Run, TiltedTarget, bulk_ess, climbed, long_chains, r_hat
from pplemd.parameterization.placement import Change, Placement, Values, flat


class Trial(eqx.Module):
    """Chains in the coordinates of one lambda, and how they mix.

    Mixing is judged by the latents' values, whatever the coordinates; ranks serve, so units do not matter.

    Attributes:
        u: base coordinates of the kept draws, leading dimensions chain and draw.
        run: the chains, in the coordinates of lambda.
        ess: least effective sample size of an element, over all chains.
        r_hat: largest R-hat of an element.
        gradients: of the kept draws, over all chains.
        sound: r_hat < 1.05 and no divergence.
    """

    u: Values
    run: Run
    ess: Float[Array, ""]
    r_hat: Float[Array, ""]
    gradients: Float[Array, ""]
    sound: Bool[Array, ""]

    @property
    def rate(self) -> Float[Array, ""]:
        """Least effective sample size per gradient."""
        return self.ess / self.gradients


class Length(eqx.Module):
    """How long a trial is.

    Attributes:
        chains: side by side.
        warm_up: transitions that adapt and are thrown away.
        draws: kept transitions of each chain.
    """

    chains: int = eqx.field(static=True, default=4)
    warm_up: int = eqx.field(static=True, default=200)
    draws: int = eqx.field(static=True, default=100)

    def __check_init__(self) -> None:
        if self.chains < 1 or self.warm_up < 0 or self.draws < 4:
            raise RecipeError(
                f"found a pilot of {self.chains} chains, {self.warm_up} warm-up transitions and {self.draws} draws; "
                "expected 1, 0 and 4 or more, as many as halves of chains need."
            )


@eqx.filter_jit
def trial(
    key: PRNGKeyArray,
    placement: Placement,
    target: TiltedTarget,
    kernel: AbstractKernel,
    lam: Centering,
    length: Length,
) -> Trial:
    """Run chains in the coordinates of lambda; compiled once for all lambdas of a target.

    Args:
        key: a key.
        placement: the program.
        target: of its base coordinates.
        kernel: the transition.
        lam: whose coordinates.
        length: how long.
    """
    change = Change(placement, lam)
    problem, program = placement.problem, placement.program
    key_start, key_run = jax.random.split(key)

    def start(start_key: PRNGKeyArray) -> Values:
        return change.inverse(climbed(start_key, target, problem.draw(start_key, program)).position)

    starts = jax.vmap(start)(jax.random.split(key_start, length.chains))
    run = long_chains(key_run, placement.target(target, lam), kernel, starts, length.warm_up, length.draws)
    u = jax.vmap(jax.vmap(lambda v: change(v)[0]))(run.positions)
    values = jax.vmap(jax.vmap(lambda one: flat(problem.latents(program, one))))(u)
    moving = jnp.any(values != values[:1, :1], axis=(0, 1))  # others never do, such as those of a triangle
    moving = moving | ~jnp.any(moving)
    apart = jnp.max(jnp.where(moving, r_hat(values), 1.0))
    ess = jnp.min(jnp.where(moving, bulk_ess(values), jnp.inf))
    sound = (apart < 1.05) & ~jnp.any(run.diverging)
    return Trial(u, run, ess, apart, jnp.sum(run.gradients), sound)


def pooled(u: Values) -> Values:
    """Draws of all chains in one dimension."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), u)
