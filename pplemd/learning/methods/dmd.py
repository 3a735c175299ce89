"""Distribution matching distillation: the reverse KL, each sample's pull brought to one size."""

from typing import ClassVar

import jax
from jaxtyping import PRNGKeyArray

from pplemd.dsl import Program
from pplemd.learning.methods.base import AbstractPlain, AbstractScene, Loss, Moment
from pplemd.learning.methods.pulled import Pulled, see, toward


class DMD(AbstractPlain):
    """Gradient E[v(sigma) (D_p - D_q)(x_sigma) / mean |x - D_q(x_sigma)| . dg(z)/dtheta], the mean over one sample.

    The paper's regression on pairs of noise and teacher samples is the recipe's `anchor`: with `anchor=em.Anchor()` it
    is DMD, without one the distribution matching alone, as in DMD2 (arXiv:2405.14867).

    Source: arXiv:2311.18828, equations 7 and 8 (DMD's weight is without a bound; here the distance is 1e-5 at least).
    """

    chains: ClassVar[bool] = False
    learns_score: ClassVar[bool] = True

    def draw(self, scene: AbstractScene, moment: Moment, key: PRNGKeyArray) -> Pulled:
        """Fresh samples, and their normalised pull."""
        drawn = scene.noised(moment.program, key, moment.progress)
        seen = see(moment.program, scene, moment, drawn)
        pull = jax.vmap(lambda one: (one.teacher - one.student) / one.scale)(seen)
        return Pulled(drawn.latents, drawn.labels, drawn.sigma, pull)

    def loss(self, program: Program, scene: AbstractScene, moment: Moment, drawn: Pulled) -> Loss:
        """Half the squared distance to where samples are pulled."""
        return toward(program, scene, drawn)
