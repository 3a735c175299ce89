"""How a step of distillation is computed: in which precision, and what is spent to make it fit the memory."""

from typing import TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PyTree

from pplemd.errors import RecipeError
from pplemd.learning.microbatches import dividing
from pplemd.networks import Computing, computed, narrowed

TreeT = TypeVar("TreeT", bound=PyTree)


class Compute(eqx.Module):
    """How a step is computed. What it learns is the same up to rounding.

    Attributes:
        bf16: networks of denoisers compute in bfloat16, and the teacher's weights are kept in it. Parameters that are
            trained, their optimisers and averages stay in 32 bits, and so does what is done with a network's output:
            preconditioning, (D - x_sigma) / sigma^2, the chains, the losses.
        rematerialise: features are computed again for gradients, not kept: about a third more operations where a
            gradient is taken, and the memory of one block's features instead of all.
        accumulate: microbatches that a batch is cut into, one after the other: in the score's update, the E-step and
            the generator's update. The same draws, the same mean gradient; features of one microbatch at a time.
    """

    bf16: bool = False
    rematerialise: bool = False
    accumulate: int = 1

    def __check_init__(self) -> None:
        if self.accumulate < 1:
            raise RecipeError(
                f"the recipe needs compute.accumulate >= 1; found {self.accumulate}. It is the number of microbatches "
                "that a batch is cut into; 1 for none."
            )

    @property
    def computing(self) -> Computing:
        """How a denoiser's network is computed."""
        return Computing(jnp.bfloat16 if self.bf16 else None, self.rematerialise)

    def of(self, tree: TreeT) -> TreeT:
        """Denoisers computed this way; where nothing is asked for, as they were."""
        return computed(tree, self.computing) if self.bf16 or self.rematerialise else tree

    def kept(self, teacher: TreeT) -> TreeT:
        """The teacher with its weights in the type that they are used in."""
        return narrowed(teacher, jnp.bfloat16) if self.bf16 else teacher

    def parts(self, count: int, batch: int) -> int:
        """Microbatches for `count` samples, none of which is larger than one of the recipe's batch.

        Args:
            count: how many there are.
            batch: the recipe's batch.
        """
        return dividing(count, -(-count // (batch // self.accumulate)))
