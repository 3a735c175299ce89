"""What training keeps from one EM step to the next."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from pplemd.dsl import Program
from pplemd.inference import StepSizes
from pplemd.learning.e_step import Tuning
from pplemd.learning.learner import Learner
from pplemd.learning.loop import AbstractState


class EMState(AbstractState):
    """What the next EM step needs, and what a checkpoint keeps.

    Attributes:
        step: EM steps done.
        generator: the program under training.
        score: the student's score network under training.
        average: the program's moving average: what is sampled and evaluated.
        step_sizes: the kernel's step sizes by sigma, where they are adapted.
        centering: lambda of x_sigma by range of sigma, where it is chosen.
        memory: what the recipe's method keeps from step to step, or None.
    """

    step: Int[Array, ""]
    generator: Learner
    score: Learner
    average: Program
    step_sizes: StepSizes | None = None
    centering: Float[Array, " bins"] | None = None
    memory: PyTree = None

    @property
    def tuning(self) -> Tuning:
        """What its chains are tuned by."""
        return Tuning(self.step_sizes, self.centering)

    @property
    def skipped_in_a_row(self) -> Int[Array, ""]:
        """Updates skipped since the last good one, of the generator or of the score network."""
        return jnp.maximum(self.generator.skipped_in_a_row, self.score.skipped_in_a_row)

    @property
    def visible(self) -> "EMState":
        """The state without what its optimisers remember."""
        return dataclasses.replace(self, generator=self.generator.visible, score=self.score.visible)
