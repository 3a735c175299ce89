"""A teacher's denoiser as a one-step generator."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from pplemd.conditions import Condition
from pplemd.errors import TeacherError
from pplemd.teachers.base import AbstractDenoiser, AbstractTeacher
from pplemd.teachers.guided import Guided
from pplemd.teachers.latent_diffusion import LatentDiffusion
from pplemd.teachers.wrapper import without


class OneStep(eqx.Module):
    """g(z) = D(sigma* z, sigma*): the teacher's network, asked once at one large noise level.

    Source: arXiv:2405.16852, section 4 (initialisation of the generator).

    Attributes:
        denoiser: the denoiser whose weights the M-step trains.
        sigma: sigma*, in data units.
    """

    denoiser: AbstractDenoiser
    sigma: float = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one z, and of one x: the denoiser's."""
        return self.denoiser.shape

    def __call__(self, z: Float[Array, "..."], condition: Condition = None) -> Float[Array, "..."]:
        """One x for one standard normal z of the same shape."""
        sigma = jnp.asarray(self.sigma, z.dtype)
        return self.denoiser.denoise(sigma * z, sigma, condition)


def trainable(denoiser: AbstractDenoiser) -> AbstractDenoiser:
    """What a network that starts as a copy of a teacher copies: its denoiser without guidance and codec."""
    return without(denoiser, Guided, LatentDiffusion)


def one_step(teacher: AbstractTeacher, sigma: float) -> OneStep:
    """The one-step generator that starts as a copy of the teacher; of a guided one, as a copy of what it guides.

    Args:
        teacher: a teacher that is a denoiser network.
        sigma: sigma*, in data units; peers use 1 (Diff-Instruct), 2.5 (SiD), the EMD paper about 20 for images.

    Raises:
        TeacherError: where the teacher has no network to copy, or sigma is not positive.
    """
    if not isinstance(teacher, AbstractDenoiser):
        raise TeacherError(
            f"one_step copies a denoiser network; found a {type(teacher).__name__}, which has none. "
            "Give the program a network of its own, for example em.networks.MLP(...)."
        )
    if not sigma > 0:
        raise TeacherError(f"one_step needs sigma > 0, the noise level at which the teacher is asked; found {sigma}.")
    return OneStep(trainable(teacher), float(sigma))
