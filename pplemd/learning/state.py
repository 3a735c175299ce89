"""What training keeps from one step to the next, by the names of its networks."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from pplemd.learning.learner import Learner
from pplemd.learning.loop import AbstractState


class TrainState(AbstractState):
    """What the next step needs, and what a checkpoint keeps.

    Attributes:
        step: steps done.
        learners: the networks under training, with their optimisers' states, by name.
        averages: moving averages of networks, by name: what is sampled and evaluated.
        memory: what the algorithm keeps besides, such as the positions of its chains; or None.
        tuning: what its chains are tuned by, such as step sizes and coordinates; or None.
    """

    step: Int[Array, ""]
    learners: dict[str, Learner]
    averages: dict[str, PyTree]
    memory: PyTree = None
    tuning: PyTree = None

    @property
    def networks(self) -> dict[str, PyTree]:
        """The networks as they are, by name."""
        return {name: learner.module for name, learner in self.learners.items()}

    @property
    def skipped_in_a_row(self) -> Int[Array, ""]:
        """Updates skipped since the last good one, of the network that skipped most."""
        return jnp.max(jnp.stack([learner.skipped_in_a_row for learner in self.learners.values()]))

    @property
    def visible(self) -> "TrainState":
        """The state without what its optimisers remember."""
        return dataclasses.replace(self, learners={name: one.visible for name, one in self.learners.items()})
