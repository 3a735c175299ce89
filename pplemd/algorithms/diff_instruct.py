"""Diff-Instruct: the reverse KL divergence over noise levels."""

from jaxtyping import PRNGKeyArray

from pplemd.algorithms.distillation import AbstractDistillation, DistillationContext, Pulled
from pplemd.dsl import Program
from pplemd.learning.algorithm import Loss, StepInput


class DiffInstruct(AbstractDistillation[Pulled]):
    """Gradient E[w(sigma) (s_p - s_q)(x_sigma) . dg(z)/dtheta] of KL(p_sigma || q_sigma), w(sigma) = sigma^2 v(sigma).

    In data units the samples are pulled by D_q - D_p. It is `EMD` with K = 1, latents that do not move and a step size
    of 1.

    Source: arXiv:2305.18455, theorem 3.1 (the integral KL divergence and its gradient).
    """

    def draw(self, context: DistillationContext, now: StepInput, key: PRNGKeyArray) -> Pulled:
        """Fresh samples, and D_q - D_p at their noised selves."""
        rows = self.noised(context, now, key)
        seen = self.denoised(now.networks["generator"], context, now, rows)
        return Pulled(rows.latents, rows.conditions, rows.sigma, seen.teacher - seen.student)

    def loss(self, program: Program, context: DistillationContext, now: StepInput, rows: Pulled) -> Loss:
        """Half the squared distance to where samples are pulled."""
        return self.toward(program, context, rows)
