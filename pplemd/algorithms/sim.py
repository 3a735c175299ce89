"""Score implicit matching: any convex distance between the scores."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.algorithms.distillation import AbstractDistillation, DistillationContext, Noised
from pplemd.dsl import Program
from pplemd.errors import RecipeError
from pplemd.learning.algorithm import Loss, StepInput


class SIM(AbstractDistillation[Noised]):
    """Loss -E[v(sigma) d'(y) . (D_p - x)], y = D_p - D_q, d(y) = sqrt(|y|^2 + c^2) - c, its gradient through x_sigma.

    D_p - x is sigma^2 (s_p - grad log N(x_sigma; x, sigma^2)), so that with the exact student score its gradient is
    that of E[d(s_p - s_q)] with x_sigma drawn from the present student. A distance of |y|^2 / 2 is `SiD(alpha=1)`.

    Source: arXiv:2410.16794, theorem 3.1 and equation 12 (the pseudo-Huber distance).
    Departs: the distance is of denoised samples, in data units; of scores it is the same with c / sigma^2 in place of
        c. The default of c is the rule of arXiv:2310.14189, section 3.3.

    Attributes:
        softness: c / sqrt(entries of x), in data units: below it the distance is a squared one.
    """

    softness: float = 0.00054

    def __check_init__(self):
        if not 0 < self.softness < math.inf:
            raise RecipeError(f"SIM needs a positive softness; found softness={self.softness}. The usual is 0.00054.")

    def draw(self, context: DistillationContext, now: StepInput, key: PRNGKeyArray) -> Noised:
        """Fresh latents and noise; both networks are evaluated in the loss, which is differentiated through them."""
        return self.noised(context, now, key)

    def loss(self, program: Program, context: DistillationContext, now: StepInput, rows: Noised) -> Loss:
        """The mean of the loss over samples; `pull` is the mean square of D_q - D_p."""

        def slope(y: Float[Array, "..."]) -> Float[Array, "..."]:
            """d'(y) of the pseudo-Huber distance."""
            return y / jnp.sqrt(jnp.sum(y**2) + self.softness**2 * y.size)

        def one(one, sigma):
            gap = one.student - one.teacher
            return -self.weighting(sigma) * jnp.sum(slope(gap) * (one.student - one.x)), jnp.mean(gap**2)

        losses, gaps = jax.vmap(one)(self.denoised(program, context, now, rows), rows.sigma)
        return jnp.mean(losses), {"pull": jnp.mean(gaps)}
