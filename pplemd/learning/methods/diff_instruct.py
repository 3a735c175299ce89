"""Diff-Instruct: the reverse KL divergence over noise levels."""

from typing import ClassVar

from jaxtyping import PRNGKeyArray

from pplemd.dsl import Program
from pplemd.learning.methods.base import AbstractPlain, AbstractScene, Loss, Moment
from pplemd.learning.methods.pulled import Pulled, see, toward


class DiffInstruct(AbstractPlain):
    """Gradient E[w(sigma) (s_p - s_q)(x_sigma) . dg(z)/dtheta] of KL(p_sigma || q_sigma), w(sigma) = sigma^2 v(sigma).

    In data units the samples are pulled by D_q - D_p. It is `EMD` with K = 1, latents held and a step size of 1.

    Source: arXiv:2305.18455, theorem 3.1 (the integral KL divergence and its gradient).
    """

    chains: ClassVar[bool] = False
    learns_score: ClassVar[bool] = True

    def draw(self, scene: AbstractScene, moment: Moment, key: PRNGKeyArray) -> Pulled:
        """Fresh samples, and D_q - D_p at their noised selves."""
        drawn = scene.noised(moment.program, key, moment.progress)
        seen = see(moment.program, scene, moment, drawn)
        return Pulled(drawn.latents, drawn.labels, drawn.sigma, seen.teacher - seen.student)

    def loss(self, program: Program, scene: AbstractScene, moment: Moment, drawn: Pulled) -> Loss:
        """Half the squared distance to where samples are pulled."""
        return toward(program, scene, drawn)
