"""Denoisers around another one, and the one place that looks through them."""

import dataclasses

import equinox as eqx

from pplemd.diffusion import record_of
from pplemd.teachers.base import AbstractDenoiser, AbstractTeacher
from pplemd.teachers.function import DenoiserFunction
from pplemd.teachers.preconditioned import Preconditioned


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
        The coefficients of a `Preconditioned`. The record of `pplemd.diffusion` that a `DenoiserFunction` asks, also
        where it is compiled (`eqx.filter_jit`), and any other function as it is: nothing can be seen of it. Any other
        teacher as it is: a `Denoiser` is of EDM's convention.
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
