"""Classifier-free guidance: a class-conditional denoiser told to overstate what the class says."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.errors import RecipeError, TeacherError
from pplemd.teachers.base import AbstractDenoiser, AbstractTeacher
from pplemd.teachers.wrapper import AbstractWrapper, told_classes


class Guidance(eqx.Module):
    """How strongly the class guides, and at which noise levels; elsewhere the scale is 1, the denoiser as it is.

    Source: arXiv:2207.12598, equation 6, its w being scale - 1; arXiv:2404.07724, section 3 (the interval).

    Attributes:
        scale: 1 for none, 0 for the law without classes, above 1 to overstate the class.
        low: guidance acts at sigma > low, in data units.
        high: and at sigma <= high.
    """

    scale: float = eqx.field(static=True)
    low: float = eqx.field(static=True, default=0.0)
    high: float = eqx.field(static=True, default=math.inf)

    def __check_init__(self) -> None:
        if not math.isfinite(self.scale) or not 0 <= self.low < self.high:
            raise RecipeError(
                f"guidance has scale={self.scale} at sigma from {self.low} to {self.high}; expected a finite scale and "
                "0 <= low < high. A scale of 1 is no guidance; 1.5 to 4 are usual."
            )

    def at(self, sigma: Float[Array, ""]) -> Float[Array, ""]:
        """The scale at a noise level."""
        return jnp.where((sigma > self.low) & (sigma <= self.high), self.scale, 1.0).astype(sigma.dtype)


class Guided(AbstractWrapper):
    """D_none + scale (D_label - D_none), of one denoiser asked with a class and without; without a label, D_none.

    The two are asked as a batch of two. What starts as a copy of a teacher, the generator and the student's score
    network, is a copy of `denoiser` alone: one evaluation each.

    Source: arXiv:2207.12598, equation 6.

    Attributes:
        denoiser: of a law with classes, which knows the label -1 as no class: a network taught with dropped labels.
        guidance: how strongly, and where.
    """

    denoiser: AbstractDenoiser
    guidance: Guidance

    def __check_init__(self) -> None:
        if self.denoiser.classes is None:
            raise TeacherError(
                f"guidance needs a denoiser with classes; found a {type(self.denoiser).__name__} with classes=None. "
                f"{told_classes(self.denoiser)}, or leave the guidance out."
            )

    @property
    def classes(self) -> int | None:
        """The number of labels: the denoiser's."""
        return self.denoiser.classes

    def denoise(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        label: Int[Array, ""] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """The guided denoiser, no posterior mean of any law unless the scale is 0 or 1."""
        if label is None:
            return self.denoiser.denoise(x_sigma, sigma, None, key)
        choices = jnp.stack([label, jnp.full_like(label, -1)])
        told, untold = jax.vmap(lambda choice: self.denoiser.denoise(x_sigma, sigma, choice, key))(choices)
        return told + (self.guidance.at(sigma) - 1) * (told - untold)  # so that scale 1 is the denoiser bit for bit


def unguided(denoiser: AbstractDenoiser) -> AbstractDenoiser:
    """The same denoiser without its guidance, wherever among its wrappers that is; one without any as it is."""
    if isinstance(denoiser, Guided):
        return unguided(denoiser.denoiser)
    if not isinstance(denoiser, AbstractWrapper):
        return denoiser
    return dataclasses.replace(denoiser, denoiser=unguided(denoiser.denoiser))


def guidance_of(teacher: AbstractTeacher) -> Guidance | None:
    """The outermost guidance among a teacher's wrappers, or None."""
    while isinstance(teacher, AbstractWrapper):
        if isinstance(teacher, Guided):
            return teacher.guidance
        teacher = teacher.denoiser
    return None
