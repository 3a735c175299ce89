"""Denoisers around another one: guided, in the space of a codec, with a class that stands for none."""

import dataclasses
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.codecs import AbstractCodec, Identity
from pplemd.conditions import AbstractCondition, Classes, Condition
from pplemd.diffusion import record_of
from pplemd.errors import RecipeError, TeacherError
from pplemd.teachers.base import AbstractDenoiser, AbstractTeacher
from pplemd.teachers.denoiser import Preconditioned
from pplemd.teachers.function import DenoiserFunction


class AbstractWrapper(AbstractDenoiser):
    """A denoiser around another one of the same x, whose network and convention of noise are its own.

    Attributes:
        denoiser: the other one, which may be wrapped itself.
    """

    denoiser: eqx.AbstractVar[AbstractDenoiser]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one x: the denoiser's."""
        return self.denoiser.shape


def without(denoiser: AbstractDenoiser, *kinds: type[AbstractWrapper]) -> AbstractDenoiser:
    """The same denoiser without its wrappers of some kinds."""
    if isinstance(denoiser, kinds):
        return without(denoiser.denoiser, *kinds)
    if not isinstance(denoiser, AbstractWrapper):
        return denoiser
    return dataclasses.replace(denoiser, denoiser=without(denoiser.denoiser, *kinds))


def unwrapped(teacher: AbstractTeacher) -> AbstractTeacher:
    """The teacher below all wrappers; one without wrappers as it is."""
    while isinstance(teacher, AbstractWrapper):
        teacher = teacher.denoiser
    return teacher


def convention(teacher: AbstractTeacher) -> object:
    """How the network below all wrappers speaks of noise.

    Returns:
        The coefficients of a `Preconditioned`. The record of `pplemd.diffusion` that a `DenoiserFunction` evaluates,
        also where it is compiled (`eqx.filter_jit`), and any other function as it is: nothing can be seen of it. Any
        other teacher as it is: a `Denoiser` is of EDM's convention.
    """
    inner = unwrapped(teacher)
    if isinstance(inner, Preconditioned):
        return inner.coefficients
    if not isinstance(inner, DenoiserFunction):
        return inner
    record = record_of(inner.function)
    return convention(record) if isinstance(record, AbstractTeacher) else record  # as of other.denoise


def with_classes(denoiser: AbstractDenoiser) -> str:
    """How a denoiser that has too few classes is given more, for messages."""
    if isinstance(unwrapped(denoiser), DenoiserFunction):
        return "Say it: DenoiserFunction(function, shape, condition=<number of classes>)"
    return "Build its network with classes=<number of classes>"


class Guidance(eqx.Module):
    """How strongly the condition guides, and at which noise levels; elsewhere the scale is 1, the denoiser as it is.

    Source: arXiv:2207.12598, equation 6, its w being scale - 1; arXiv:2404.07724, section 3 (the interval).

    Attributes:
        scale: 1 for none, 0 for the distribution without a condition, above 1 to overstate the condition.
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
        denoiser: of a distribution with a condition, which knows the null value: a network taught with dropped
            conditions.
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
        """The guided denoiser, no posterior mean of any distribution unless the scale is 0 or 1."""
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


class NullClassDenoiser(AbstractWrapper):
    """A denoiser whose last class was taught as no class: that one stands for None, and for -1.

    Attributes:
        denoiser: of a distribution with two classes or more.
    """

    denoiser: AbstractDenoiser

    def __check_init__(self) -> None:
        if (self.denoiser.classes or 0) < 2:
            raise TeacherError(
                f"NullClassDenoiser needs a denoiser with 2 classes or more; found a {type(self.denoiser).__name__} "
                f"with classes={self.denoiser.classes}. {with_classes(self.denoiser)}, that of no class counted; or "
                "leave NullClassDenoiser out, where no class is the lack of a condition."
            )

    @property
    def condition(self) -> AbstractCondition | None:
        """Classes: one fewer than the denoiser's."""
        return Classes((self.denoiser.classes or 0) - 1)

    def denoise(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """Posterior mean of x, of the last class where there is none."""
        null = (self.denoiser.classes or 0) - 1
        label = jnp.asarray(null if condition is None else condition)
        return self.denoiser.denoise(x_sigma, sigma, jnp.where((label >= 0) & (label < null), label, null), key)
