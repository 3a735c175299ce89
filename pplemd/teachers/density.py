"""Any log density as a teacher."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pplemd.errors import TeacherError
from pplemd.teachers.base import AbstractDensity
from pplemd.teachers.noised import AbstractNoised, Quadratic


class Density(AbstractDensity):
    """The law of density proportional to exp(log_density(x)); see `AbstractDensity` for what noise makes of it.

    Args:
        log_density: log q of one x up to a constant, differentiable twice; a plain function, or an Equinox module.
        shape: the shape of one x.
        noised: what stands for the score of q_sigma.

    Raises:
        TeacherError: where the function does not give one number of x's type for one x.
    """

    log_density: Callable
    shape: tuple[int, ...] = eqx.field(static=True)
    noised: AbstractNoised = Quadratic()
    condition: None = eqx.field(static=True, default=None)

    def __check_init__(self):
        x = jax.ShapeDtypeStruct(self.shape, jnp.result_type(float))  # of the mode that it is written in
        found = eqx.filter_eval_shape(self.log_density, x)
        if not isinstance(found, jax.ShapeDtypeStruct) or (found.shape, found.dtype) != ((), x.dtype):
            raise TeacherError(
                f"the log density of a Density gives {found} for one x of shape {self.shape}; expected one number of "
                f"type {x.dtype}. A log density is written for one x, without a batch dimension: sum over its terms."
            )

    def log_q(self, x: Float[Array, "..."]) -> Float[Array, ""]:
        """The user's log density."""
        return self.log_density(x)
