"""Any function of the user's as a teacher: a score, or a denoiser."""

import inspect
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.errors import TeacherError
from pplemd.teachers.base import AbstractDenoiser, AbstractTeacher


class ScoreFunction(AbstractTeacher):
    """A teacher given by `function(x_sigma, sigma)`, or `(x_sigma, sigma, label)` where classes are given.

    Attributes:
        function: the score of q_sigma for one x_sigma; a plain function, or an Equinox module that holds weights.
        shape: the shape of one x.
        classes: the number of labels, or None.

    Raises:
        TeacherError: where the function needs a label and classes are not given, or takes none and they are.
    """

    function: Callable
    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        _see_it_takes_labels(self, self.function, self.classes)

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

    Raises:
        TeacherError: where the function needs a label and classes are not given, or takes none and they are.
    """

    function: Callable
    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        _see_it_takes_labels(self, self.function, self.classes)

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


def _see_it_takes_labels(owner: AbstractTeacher, function: Callable, classes: int | None) -> None:
    """Raise where a function is certain to fail at its first call: for a label that it needs, or does not take."""
    name = type(owner).__name__
    if _takes(function, 2 if classes is None else 3):
        return
    if _takes(function, 2):
        raise TeacherError(
            f"a {name} was given classes={classes}, and its function takes no label; expected a function of "
            "(x_sigma, sigma, label=None). Give it the label, or leave classes= out."
        )
    if _takes(function, 3):
        raise TeacherError(
            f"the function of a {name} needs a label, and classes= is missing; expected the number of labels. Tell it: "
            f"{name}(function, shape, classes=<number of labels>)."
        )
    raise TeacherError(
        f"the function of a {name} does not take (x_sigma, sigma), nor (x_sigma, sigma, label); found a "
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
