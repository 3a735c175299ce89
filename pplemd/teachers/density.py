"""Any log density as a teacher, a posterior of named coordinates among them."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pplemd.errors import TeacherError
from pplemd.teachers.base import AbstractDensity, AbstractNoised, Quadratic


class Density(AbstractDensity):
    """The one whose density is proportional to exp(log_density(x)); see `AbstractDensity` for what noise makes of it.

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


class Posterior(AbstractDensity):
    """The distribution of a model's latents given its data, over the flat vector of their coordinates.

    `em.posterior` builds one from a NumPyro model. See `AbstractDensity` for what noise makes of it; another rule:
    `dataclasses.replace(teacher, noised=em.teachers.Unnoised())`.

    Attributes:
        name: the model's name.
        sites: name and shape of the coordinates of each latent, in the order in which they lie in x.
        density: log joint density of one x, log-determinants of the transforms included, constants too.
        constrain: from one x to the values of latents and deterministic sites by name.
        start: an x of finite density and slope, that chains may start from.
        noised: what stands for the score of q_sigma.
        notes: what the model's trace assumed, in sentences.
        coordinates: which latents are centered, how far and why, in sentences.
    """

    name: str = eqx.field(static=True)
    sites: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)
    density: Callable
    constrain: Callable
    start: Float[Array, " d"]
    noised: AbstractNoised = Quadratic()
    condition: None = eqx.field(static=True, default=None)
    notes: tuple[str, ...] = eqx.field(static=True, default=())
    coordinates: tuple[str, ...] = eqx.field(static=True, default=())

    @property
    def shape(self) -> tuple[int, ...]:
        """(d,), d the number of unconstrained coordinates."""
        return (sum(math.prod(shape) for _, shape in self.sites),)

    def log_q(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """Log joint density of latents and data at one x."""
        return self.density(x)

    @eqx.filter_jit
    def constrained(self, x: Float[Array, "..."]) -> dict[str, Float[Array, "n ..."]]:
        """Values of the model's latents and deterministic sites, by its own names.

        Args:
            x: flat unconstrained draws, (n, d).

        Returns:
            name -> (n, *shape), in alphabetical order.

        Raises:
            TeacherError: where x is not of this shape.
        """
        if x.ndim != 2 or x.shape[1:] != self.shape:
            raise TeacherError(
                f"the posterior of {self.name} was given draws of shape {x.shape}; expected (n, {self.shape[0]})."
            )
        return jax.vmap(self.constrain)(x)
