"""Score identity distillation: a Fisher divergence over noise levels."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from pplemd.algorithms.distillation import AbstractDistillation, DistillationContext, Noised
from pplemd.dsl import Program
from pplemd.errors import RecipeError
from pplemd.learning.algorithm import Loss, StepInput


class SiD(AbstractDistillation[Noised]):
    """Loss E[v(sigma) / mean |x - D_q| . (D_q - D_p) . ((D_q - x) - alpha (D_q - D_p))], its gradient through x_sigma.

    With the exact student score, alpha = 1/2 without the weight by sample is half the Fisher divergence times sigma^4;
    alpha = 1 is score implicit matching with the squared distance. The gradient goes through both networks' inputs.
    The noise levels of its authors are `em.diffusion.KarrasUniform()`.

    Source: arXiv:2404.04057, equation 23 and section 4 (the weight by sample, alpha = 1.2).

    Attributes:
        alpha: 1 and 1.2 in the paper.
        normalised: whether each sample's loss is divided by mean |x - D_q|.
    """

    alpha: float = 1.2
    normalised: bool = True

    def __check_init__(self):
        if not math.isfinite(self.alpha):
            raise RecipeError(f"SiD needs a finite alpha; found alpha={self.alpha}. Usual values are 1 and 1.2.")

    def draw(self, context: DistillationContext, now: StepInput, key: PRNGKeyArray) -> Noised:
        """Fresh latents and noise; both networks are evaluated in the loss, which is differentiated through them."""
        return self.noised(context, now, key)

    def loss(self, program: Program, context: DistillationContext, now: StepInput, rows: Noised) -> Loss:
        """The mean of the loss over samples; `pull` is the mean square of D_q - D_p."""

        def one(one, sigma):
            gap = one.teacher - one.student
            weight = self.weighting(sigma) / (one.scale if self.normalised else 1.0)
            return weight * jnp.sum(gap * ((one.teacher - one.x) - self.alpha * gap)), jnp.mean(gap**2)

        losses, gaps = jax.vmap(one)(self.denoised(program, context, now, rows), rows.sigma)
        return jnp.mean(losses), {"pull": jnp.mean(gaps)}
