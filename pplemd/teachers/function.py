"""Any function of the user's as a teacher: a score, or a denoiser."""

import inspect
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.conditions import AbstractCondition, Condition, as_condition
from pplemd.errors import TeacherError
from pplemd.teachers.base import AbstractDenoiser, AbstractTeacher


class ScoreFunction(AbstractTeacher):
    """A teacher given by `function(x_sigma, sigma)`, or `(x_sigma, sigma, condition)` where there is one.

    Attributes:
        function: the score of q_sigma for one x_sigma; a plain function, or an Equinox module that holds weights.
        shape: the shape of one x.
        condition: the form of what conditions the distribution, a number of classes, or None.

    Raises:
        TeacherError: where the function needs a condition and none is declared, or takes none and one is.
    """

    function: Callable
    shape: tuple[int, ...] = eqx.field(static=True)
    condition: AbstractCondition | None = eqx.field(static=True, default=None, converter=as_condition)

    def __check_init__(self) -> None:
        _check_arguments(self, self.function, self.condition)

    def score(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
    ) -> Float[Array, "..."]:
        """The user's score."""
        return _call(self.function, x_sigma, sigma, condition)


class DenoiserFunction(AbstractDenoiser):
    """A teacher given by a denoiser, D(x_sigma, sigma[, condition]) = E[x | x_sigma].

    Other conventions (VP, eps, v, flow) become such a function through pplemd.diffusion's conversions.

    Attributes:
        function: the denoiser for one x_sigma; a plain function, or an Equinox module that holds weights.
        shape: the shape of one x.
        condition: the form of what conditions the distribution, a number of classes, or None.

    Raises:
        TeacherError: where the function needs a condition and none is declared, or takes none and one is.
    """

    function: Callable
    shape: tuple[int, ...] = eqx.field(static=True)
    condition: AbstractCondition | None = eqx.field(static=True, default=None, converter=as_condition)

    def __check_init__(self) -> None:
        _check_arguments(self, self.function, self.condition)

    def denoise(
        self,
        x_sigma: Float[Array, "..."],
        sigma: Float[Array, ""],
        condition: Condition = None,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "..."]:
        """The user's denoiser."""
        return _call(self.function, x_sigma, sigma, condition)


def _call(function: Callable, x_sigma: Array, sigma: Array, condition: Condition) -> Array:
    return function(x_sigma, sigma) if condition is None else function(x_sigma, sigma, condition)


def _check_arguments(owner: AbstractTeacher, function: Callable, condition: AbstractCondition | None) -> None:
    """Raise where a function is certain to fail at its first call: for a condition that it needs, or does not take."""
    name = type(owner).__name__
    if _takes(function, 2 if condition is None else 3):
        return
    if _takes(function, 2):
        raise TeacherError(
            f"a {name} was given condition={condition}, and its function takes none; expected a function of "
            "(x_sigma, sigma, condition=None). Add that argument, or leave condition= out."
        )
    if _takes(function, 3):
        raise TeacherError(
            f"the function of a {name} needs a condition, and condition= is missing; expected its form. Say it: "
            f"{name}(function, shape, condition=<number of classes>), or another of em.conditions."
        )
    raise TeacherError(
        f"the function of a {name} does not take (x_sigma, sigma), nor (x_sigma, sigma, condition); found a "
        f"{type(function).__name__}. Wrap it in one that does."
    )


def _takes(function: Callable, count: int) -> bool:
    """Whether a function may be called with so many positional arguments; True where that is not known beforehand."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # one of C's, without a signature
        return True
    return True
