"""A NumPyro model with its data as a teacher: traced once, as a program is."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro import handlers
from numpyro.infer.util import constrain_fn, potential_energy

from pplemd.dsl.places import place_of
from pplemd.dsl.transport import innermost
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
            known exactly, a parameter of NumPyro's, a subsampled plate, or no start of finite density.
    """
    name = getattr(model, "__name__", type(model).__name__)
    key_trace, key_start = jax.random.split(jax.random.key(0))  # of the start alone: the density has no randomness

    def seeded(*args: Any, **kwargs: Any) -> Any:
        return handlers.seed(model, key_trace)(*args, **kwargs)  # a new handler for each trace: it keeps its last key

    with _ran(name):
        sites = handlers.trace(seeded).get_trace(*args, **kwargs)
    _check(name, sites)
    latents = [site for site, message in sites.items() if _is_latent(message)]

    def log_joint(values: dict[str, Array]) -> Array:
        return -potential_energy(seeded, args, kwargs, values)

    def constrain(values: dict[str, Array]) -> dict[str, Array]:
        return constrain_fn(seeded, args, kwargs, values, return_deterministic=True)

    with _ran(name):
        first = _unconstrained(sites, latents)
        flat, unravel = ravel_pytree(first)
        density = _traced(lambda x: log_joint(unravel(x)), flat)
        values = _traced(lambda x: constrain(unravel(x)), flat)
    shapes = tuple((site, first[site].shape) for site in sorted(first))  # the order of JAX's dictionaries
    return Posterior(name, shapes, density, values, _start(name, key_start, density, flat.size))


def _is_latent(message: dict[str, Any]) -> bool:
    return message["type"] == "sample" and not message["is_observed"]


@contextlib.contextmanager
def _ran(name: str) -> Iterator[None]:
    """Under NumPyro's own rules of types and ranks; what the model raises is told as a mistake of the model."""
    try:
        with (
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # of plates: NumPyro's own runs of the model tell them
            yield
    except TeacherError:
        raise
    except Exception as error:
        message = str(error).strip().split("\n", 1)[0].rstrip(".")
        raise TeacherError(
            f"{place_of(error)}: the model {name} raised {type(error).__name__}: {message}; expected it to run with "
            "the arguments given to em.posterior(model, *args, **kwargs). Give the data that the model takes."
        ) from error


def _check(name: str, sites: dict[str, Any]) -> None:
    """Refuse what has no density over unconstrained latents.

    Raises:
        TeacherError: there is something of the kind.
    """
    for site, message in sites.items():
        if message["type"] == "param":
            raise TeacherError(
                f"the model {name} has the NumPyro parameter {site!r}; expected latents and data only. Give it a prior "
                "(numpyro.sample), or substitute its value (numpyro.handlers.substitute)."
            )
        if message["type"] == "plate" and message["args"][1] not in (None, message["args"][0]):
            size, part = message["args"]
            raise TeacherError(
                f"the plate {site!r} of the model {name} takes {part} of {size} data at random; expected all of them, "
                "since the teacher has one density. Leave subsample_size out."
            )
        if _is_latent(message):
            _check_latent(name, site, message["fn"])
    if not any(_is_latent(message) for message in sites.values()):
        raise TeacherError(
            f"the model {name} has no latent: every site of {sorted(sites)} is observed or deterministic; expected at "
            "least one numpyro.sample without obs."
        )


def _check_latent(name: str, site: str, distribution: dist.Distribution) -> None:
    core = innermost(distribution)
    kind = type(core).__name__
    if core.support is not None and core.support.is_discrete:
        raise TeacherError(
            f"the latent {site!r} of the model {name} has the discrete distribution {kind}; expected continuous "
            "latents, since the student moves along gradients. Sum it out, for example by dist.MixtureSameFamily."
        )
    if isinstance(core, dist.Delta):
        raise TeacherError(
            f"the latent {site!r} of the model {name} is a point mass (Delta); expected a density. Use "
            "numpyro.deterministic, or handlers.substitute to fix a value."
        )


def _unconstrained(sites: dict[str, Any], latents: list[str]) -> dict[str, Array]:
    """Zeros of the unconstrained shape of each latent."""
    values = {}
    for site in latents:
        message = sites[site]
        transform = dist.biject_to(message["fn"].support)
        values[site] = jnp.zeros(transform.inverse_shape(message["value"].shape))
    return values


def _traced(function: Callable, x: Float[Array, " d"]) -> Callable:
    """The function as its own trace, so that no effect handler runs again."""
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(x)
    structure = jax.tree.structure(shapes)
    run = jex.jaxpr_as_fun(closed)
    return lambda x: jax.tree.unflatten(structure, run(x))


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
