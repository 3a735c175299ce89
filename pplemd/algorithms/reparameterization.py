"""When coordinates are chosen while something is learned, and the figures of a choice."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pplemd.errors import RecipeError
from pplemd.parameterization import Choice, Policy


class Reparameterization(eqx.Module):
    """Coordinates chosen from the E-step's own draws, again and again, since the M-step moves the program.

    A pilot is some E-steps one after the other at the program of that moment; the chains go on from its end.

    Attributes:
        every: steps between choices; the first is after so many.
        rounds: E-steps of a pilot.
        rows: rows that a pilot follows, where each row has a chain of its own.
        policy: how to choose, by a criterion that looks at draws; what is in use is left with hysteresis.
    """

    every: int = 250
    rounds: int = 25
    rows: int = 64
    policy: Policy = Policy()

    def __check_init__(self):
        if self.every < 1 or self.rounds < 4 or self.rows < 1:
            raise RecipeError(
                f"a reparameterization needs every >= 1, rounds >= 4 and rows >= 1; found every={self.every}, "
                f"rounds={self.rounds}, rows={self.rows}. To choose nothing: reparameterization=None."
            )


def figures(choice: Choice) -> dict[str, float]:
    """A choice as figures for metrics.jsonl: costs at lambda 0, 1, the best found and the chosen; mean lambdas."""
    costs: dict[str, Array | np.ndarray] = {
        "cost_noncentered": choice.noncentered,
        "cost_centered": choice.centered,
        "cost_least": choice.least,
        "cost_chosen": choice.chosen,
    }
    lambdas = {f"lambda_{name}": jnp.mean(loc) for name, loc in choice.lam.loc.items()}
    kappas = {f"kappa_{name}": jnp.mean(share) for name, share in choice.kappa.items()}
    return {name: float(value) for name, value in {**costs, **lambdas, **kappas}.items()}
