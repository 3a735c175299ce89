"""A denoiser in the space of a codec."""

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.codecs import AbstractCodec, Identity
from pplemd.conditions import AbstractCondition, Condition
from pplemd.teachers.base import AbstractDenoiser, AbstractTeacher
from pplemd.teachers.wrapper import AbstractWrapper


class LatentDiffusion(AbstractWrapper):
    """A denoiser of encoded samples, with the codec that decodes them.

    Its x are encoded; generator and score network start as copies of the denoiser alone.

    Source: arXiv:2112.10752.

    Attributes:
        denoiser: of encoded samples.
        codec: between them and the data.
    """

    denoiser: AbstractDenoiser
    codec: AbstractCodec

    @property
    def condition(self) -> AbstractCondition | None:
        """The form of what conditions the law: the denoiser's."""
        return self.denoiser.condition

    def denoise(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """The denoiser's."""
        return self.denoiser.denoise(x_sigma, sigma, condition, key)


def codec_of(teacher: AbstractTeacher) -> AbstractCodec:
    """What decodes a teacher's x: the outermost codec among its wrappers, or the one that changes nothing."""
    while isinstance(teacher, AbstractWrapper):
        if isinstance(teacher, LatentDiffusion):
            return teacher.codec
        teacher = teacher.denoiser
    return Identity()


def decoded(teacher: AbstractTeacher, x: Float[Array, "count ..."]) -> Float[Array, "count ..."]:
    """A teacher's x, as the data are."""
    return jax.vmap(codec_of(teacher).decode)(x)
