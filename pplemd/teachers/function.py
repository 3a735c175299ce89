"""Any function of the user's as a teacher: a score, or a denoiser."""

from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.teachers.base import AbstractDenoiser, AbstractTeacher


class ScoreFunction(AbstractTeacher):
    """A teacher given by `function(x_sigma, sigma)`, or `(x_sigma, sigma, label)` where classes are given.

    Attributes:
        function: the score of q_sigma for one x_sigma; a plain function, or an Equinox module that holds weights.
        shape: the shape of one x.
        classes: the number of labels, or None.
    """

    function: Callable
    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True, default=None)

    def score(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        label: Int[Array, ""] | None = None,
    ) -> Float[Array, "..."]:
        """The user's score."""
        return _call(self.function, x_sigma, sigma, label)


class DenoiserFunction(AbstractDenoiser):
    """A teacher given by a denoiser, D(x_sigma, sigma[, label]) = E[x | x_sigma].

    Other conventions (VP, eps, v, flow) become such a function through pplemd.diffusion's conversions.

    Attributes:
        function: the denoiser for one x_sigma; a plain function, or an Equinox module that holds weights.
        shape: the shape of one x.
        classes: the number of labels, or None.
    """

    function: Callable
    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True, default=None)

    def denoise(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        label: Int[Array, ""] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """The user's denoiser."""
        return _call(self.function, x_sigma, sigma, label)


def _call(function: Callable, x_sigma: Array, sigma: Array, label: Array | None) -> Array:
    return function(x_sigma, sigma) if label is None else function(x_sigma, sigma, label)
