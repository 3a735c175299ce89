"""Denoisers around another one, and the one place that looks through them."""

import equinox as eqx

from pplemd.diffusion import record_of
from pplemd.teachers.base import AbstractDenoiser, AbstractTeacher
from pplemd.teachers.function import DenoiserFunction
from pplemd.teachers.preconditioned import Preconditioned


class AbstractWrapper(AbstractDenoiser):
    """A denoiser that asks another one of the same x: what its network is, and how it speaks of noise, are that one's.

    Attributes:
        denoiser: the other one, which may be wrapped itself.
    """

    denoiser: eqx.AbstractVar[AbstractDenoiser]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one x: the denoiser's."""
        return self.denoiser.shape


def unwrapped(teacher: AbstractTeacher) -> AbstractTeacher:
    """The teacher below all wrappers; one without wrappers as it is."""
    while isinstance(teacher, AbstractWrapper):
        teacher = teacher.denoiser
    return teacher


def convention(teacher: AbstractTeacher) -> object:
    """How the network below all wrappers speaks of noise.

    Returns:
        The coefficients of a `Preconditioned`. The record of `pplemd.diffusion` that a `DenoiserFunction` asks, also
        where it is compiled (`eqx.filter_jit`), and any other function as it is: nothing can be seen of it. Any other
        teacher as it is: a `Denoiser` is of EDM's convention.
    """
    inner = unwrapped(teacher)
    if isinstance(inner, Preconditioned):
        return inner.coefficients
    if not isinstance(inner, DenoiserFunction):
        return inner
    told = record_of(inner.function)
    return convention(told) if isinstance(told, AbstractTeacher) else told  # as of DenoiserFunction(other.denoise, ...)


def told_classes(denoiser: AbstractDenoiser) -> str:
    """How a denoiser that has too few classes is given more, for messages."""
    if isinstance(unwrapped(denoiser), DenoiserFunction):
        return "Tell it: DenoiserFunction(function, shape, classes=<number of labels>)"
    return "Build its network with classes=<number of labels>"
