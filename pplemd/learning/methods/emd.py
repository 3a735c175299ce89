"""EM distillation: chains of the E-step, and the complete-data likelihood at their ends."""

from typing import Any, ClassVar

from jaxtyping import PRNGKeyArray

from pplemd.dsl import Program
from pplemd.learning.methods.base import AbstractPlain, AbstractScene, Loss, Moment


class EMD(AbstractPlain):
    """EM distillation, the default: the recipe's chain samples (x_sigma, z) under the teacher, g(z_K) follows.

    With K = 1 and latents held it is `DiffInstruct`, its gradient multiplied by the chain's step size; with long chains
    and no cancellation the gradient of KL(q || p). The paper's EMD-1 and EMD-16 are `chain.length` 1 and 16.

    Source: arXiv:2405.16852, algorithm 1 and equation 11.
    """

    chains: ClassVar[bool] = True
    learns_score: ClassVar[bool] = True

    def draw(self, scene: AbstractScene, moment: Moment, key: PRNGKeyArray) -> Any:
        """The E-step."""
        return scene.chains(moment, key)

    def loss(self, program: Program, scene: AbstractScene, moment: Moment, drawn: Any) -> Loss:
        """The M-step's loss."""
        return scene.m_step(program, drawn)
