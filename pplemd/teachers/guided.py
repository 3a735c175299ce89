"""Classifier-free guidance: a conditional denoiser that overstates what the condition says."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.conditions import AbstractCondition, Condition
from pplemd.errors import RecipeError, TeacherError
from pplemd.teachers.base import AbstractDenoiser, AbstractTeacher
from pplemd.teachers.wrapper import AbstractWrapper, with_classes, without


class Guidance(eqx.Module):
    """How strongly the condition guides, and at which noise levels; elsewhere the scale is 1, the denoiser as it is.

    Source: arXiv:2207.12598, equation 6, its w being scale - 1; arXiv:2404.07724, section 3 (the interval).

    Attributes:
        scale: 1 for none, 0 for the law without a condition, above 1 to overstate the condition.
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
    """D_null + scale (D_condition - D_null), of one denoiser; without a condition, the denoiser without one.

    The two are evaluated as a batch of two. What starts as a copy of a teacher, the generator and the student's score
    network, is a copy of `denoiser` alone: one evaluation each.

    Source: arXiv:2207.12598, equation 6.

    Attributes:
        denoiser: of a law with a condition, which knows the null value: a network taught with dropped conditions.
        guidance: how strongly, and where.
    """

    denoiser: AbstractDenoiser
    guidance: Guidance

    def __check_init__(self) -> None:
        if self.denoiser.condition is None:
            raise TeacherError(
                f"guidance needs a denoiser with a condition; found a {type(self.denoiser).__name__} with "
                f"condition=None. {with_classes(self.denoiser)}, or leave the guidance out."
            )

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
        """The guided denoiser, no posterior mean of any law unless the scale is 0 or 1."""
        form = self.denoiser.condition
        if condition is None or form is None:
            return self.denoiser.denoise(x_sigma, sigma, None, key)
        both = jax.tree.map(lambda one, null: jnp.stack([one, jnp.asarray(null, one.dtype)]), condition, form.null)
        given, null = jax.vmap(lambda one: self.denoiser.denoise(x_sigma, sigma, one, key))(both)
        return given + (self.guidance.at(sigma) - 1) * (given - null)  # so that scale 1 is the denoiser bit for bit


def unguided(denoiser: AbstractDenoiser) -> AbstractDenoiser:
    """The same denoiser without its guidance, wherever among its wrappers that is; one without any as it is."""
    return without(denoiser, Guided)


def guidance_of(teacher: AbstractTeacher) -> Guidance | None:
    """The outermost guidance among a teacher's wrappers, or None."""
    while isinstance(teacher, AbstractWrapper):
        if isinstance(teacher, Guided):
            return teacher.guidance
        teacher = teacher.denoiser
    return None
