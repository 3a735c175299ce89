"""Score identity distillation: a Fisher divergence over noise levels."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from pplemd.dsl import Program
from pplemd.errors import RecipeError
from pplemd.learning.methods.base import AbstractPlain, AbstractScene, Loss, Moment, Noised
from pplemd.learning.methods.pulled import see


class SiD(AbstractPlain):
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
    chains: ClassVar[bool] = False
    learns_score: ClassVar[bool] = True

    def __check_init__(self):
        if not math.isfinite(self.alpha):
            raise RecipeError(f"SiD needs a finite alpha; found alpha={self.alpha}. Usual values are 1 and 1.2.")

    def draw(self, scene: AbstractScene, moment: Moment, key: PRNGKeyArray) -> Noised:
        """Fresh latents and noise; both networks are asked in the loss, which is differentiated through them."""
        return scene.noised(moment.program, key, moment.progress)

    def loss(self, program: Program, scene: AbstractScene, moment: Moment, drawn: Noised) -> Loss:
        """The mean of the loss over samples; `pull` is the mean square of D_q - D_p."""
        seen = see(program, scene, moment, drawn)

        def one(one, sigma):
            gap = one.teacher - one.student
            weight = scene.weight(sigma) / (one.scale if self.normalised else 1.0)
            return weight * jnp.sum(gap * ((one.teacher - one.x) - self.alpha * gap)), jnp.mean(gap**2)

        losses, gaps = jax.vmap(one)(seen, drawn.sigma)
        return jnp.mean(losses), {"pull": jnp.mean(gaps)}
