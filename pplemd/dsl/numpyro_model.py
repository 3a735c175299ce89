"""A NumPyro model with its data as a teacher: traced once, as a program is."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro import handlers
from numpyro.infer.util import constrain_fn, helpful_support_errors, potential_energy

from pplemd.dsl.numpyro_reading import Reading, first_run, left_out, ran
from pplemd.dsl.own_mode import in_own_mode
from pplemd.dsl.posterior_checks import check_data, check_sites, is_latent
from pplemd.errors import TeacherError
from pplemd.teachers import Posterior

TRIES = 100  # starts of which one must have a finite density: as many as NumPyro gives itself


def posterior(model: Callable, *args: Any, **kwargs: Any) -> Posterior:
    """The posterior of a NumPyro model given data, as a teacher.

    Args:
        model: a NumPyro model; its latents may have any continuous support, and may be reparameterized by NumPyro's
            handlers.
        *args: its arguments: the data.
        **kwargs: the same.

    Returns:
        A teacher over the flat vector of all unconstrained latents, of the model's exact joint density. Its
        `constrained` gives draws in the model's own names, deterministic sites included.

    Raises:
        TeacherError: where the model cannot be run with these arguments, has no latent, a latent that is discrete or
            known exactly, a parameter of NumPyro's whose value is not substituted, a subsampled plate, data scored
            more often than they are there, or no start of finite density.

    Warns:
        UserWarning: what NumPyro warns of while the model runs, and what is assumed (the teacher's `notes`), such as
            an argument of data that is None, so that the data are a latent.
    """
    name = getattr(getattr(model, "func", model), "__name__", type(model).__name__)  # of a functools.partial, too
    key_trace, key_start = jax.random.split(jax.random.key(0))  # of the start alone: the density has no randomness
    told: list[str] = []

    def seeded(*args: Any, **kwargs: Any) -> Any:
        return handlers.seed(Reading(model), key_trace)(*args, **kwargs)  # a new one for each trace: it keeps its key

    with ran(name, told):
        sites, reading = first_run(model, key_trace, args, kwargs)
        latents = [site for site, message in sites.items() if is_latent(message)]
        absent = left_out(model, key_trace, args, kwargs, latents)
    told += check_sites(name, sites, reading.given, absent)
    with ran(name, told):
        check_data(name, sites, lambda values: _traced_at(seeded, values, args, kwargs))

    def log_joint(values: dict[str, Array]) -> Array:
        return -potential_energy(seeded, args, kwargs, values)

    def constrain(values: dict[str, Array]) -> dict[str, Array]:
        return constrain_fn(seeded, args, kwargs, values, return_deterministic=True)

    with ran(name, told):
        first = _unconstrained(sites, latents)
        flat, unravel = ravel_pytree(first)
        density = _traced(lambda x: log_joint(unravel(x)), flat)
        values = _traced(lambda x: constrain(unravel(x)), flat)
    shapes = tuple((site, first[site].shape) for site in sorted(first))  # the order of JAX's dictionaries
    start = _start(name, key_start, density, flat.size)
    for word in told:
        warnings.warn(f"em.posterior, the model {name}: {word}", UserWarning, stacklevel=2)
    return Posterior(name, shapes, density, values, start, notes=tuple(told))


def _traced_at(model: Callable, values: dict[str, Array], args: Any, kwargs: Any) -> dict[str, Any]:
    """The model's sites where its latents have these values."""
    return handlers.trace(handlers.substitute(model, data=values)).get_trace(*args, **kwargs)


def _unconstrained(sites: dict[str, Any], latents: list[str]) -> dict[str, Array]:
    """Zeros of the unconstrained shape of each latent."""
    values = {}
    for site in latents:
        law = sites[site]["fn"]
        with helpful_support_errors(sites[site], raise_warnings=True):
            transform = dist.biject_to(law.support)
        values[site] = jnp.zeros(transform.inverse_shape(law.shape()))
    return values


def _traced(function: Callable, x: Float[Array, " d"]) -> Callable:
    """The function as its own trace, so that no effect handler runs again, in the mode of 32 or 64 bits of today."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(x)
    structure = jax.tree.structure(shapes)
    run = jex.jaxpr_as_fun(closed)
    return in_own_mode(lambda x: jax.tree.unflatten(structure, run(x)), x.dtype)


def _start(name: str, key: PRNGKeyArray, density: Callable, size: int) -> Float[Array, " d"]:
    """A point uniform on (-2, 2) in every coordinate, Stan's start, of finite density and slope.

    Raises:
        TeacherError: of many there is none.
    """
    starts = jax.random.uniform(key, (TRIES, size), minval=-2.0, maxval=2.0)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(density)))(starts)
    good = jnp.isfinite(values) & jnp.all(jnp.isfinite(slopes), axis=1)
    if not bool(good.any()):
        raise TeacherError(
            f"the log density of the model {name} is {values[0]}, its slope {slopes[0]}, at a random start, and not "
            f"both are finite at any of {TRIES}; expected a finite density. Look for data outside of its "
            "distribution's support, a scale that is zero, or NaN in the data."
        )
    return starts[jnp.argmax(good)]
