"""The plainest criterion: try, and count."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.dsl import Centering
from pplemd.errors import RecipeError
from pplemd.parameterization.base import AbstractCriterion, Situation
from pplemd.parameterization.trial import Length, trial

DEAR = 1e6  # a trial that is not sound: its gradients count so many times


class PilotESS(AbstractCriterion):
    """Runs chains at each of a few lambdas, the same for all sites, and keeps what mixes best.

    The cost is gradients per effective draw, of the least effective element; a trial whose R-hat is 1.05 or more or
    that diverged only beats others of its kind.

    Attributes:
        grid: lambdas that are tried.
        length: of each trial.
        slack: differences of cost that do not matter.
    """

    grid: tuple[float, ...] = eqx.field(static=True, default=(0.0, 0.25, 0.5, 0.75, 1.0))
    length: Length = Length(4, 300, 250)
    slack: float = eqx.field(static=True, default=0.0)
    from_zero: ClassVar[bool] = True

    def fit(self, key: PRNGKeyArray, situation: Situation) -> Centering:
        """The lambda of the grid whose trial was cheapest; the same noise for all."""
        tried = [situation.placement.problem.centering(number) for number in self.grid]
        costs = jnp.stack([self.cost(key, situation, lam) for lam in tried])
        return tried[int(jnp.argmin(costs))]

    def cost(self, key: PRNGKeyArray, situation: Situation, lam: Centering) -> Float[Array, ""]:
        """Gradients per effective draw in the coordinates of lam.

        Raises:
            RecipeError: without a kernel to try.
        """
        law, kernel = situation.needs("PilotESS()")
        if kernel is None:
            raise RecipeError("PilotESS() runs chains, and was given no kernel. Give Situation(kernel=NUTS()).")
        made = trial(key, situation.placement, law, kernel, lam, self.length)
        return jnp.where(made.sound, 1.0, DEAR) / made.rate
