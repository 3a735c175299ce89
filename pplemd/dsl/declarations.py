"""What a declaration in a program leaves behind, and what it must be."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, PyTree

from pplemd.dsl.graph import Parameters
from pplemd.dsl.locations import here
from pplemd.dsl.sites import Centered
from pplemd.dsl.transport import base_shape, draw, innermost, location_scale, log_base, push
from pplemd.errors import ProgramError


@dataclasses.dataclass(frozen=True, eq=False)
class DeclaredLatent:
    """A latent as the trace met it.

    Attributes:
        name: unique in the program.
        place: where it was declared.
        parameters: what is static of its distribution.
        shape: of its value.
        base_shape: of its base coordinates.
        dtype: of its value.
        family: class of the distribution, without wrappers.
        base: "normal" or "prior".
        location_scale: positions of loc and scale among the arrays of the distribution; None for other families.
        plates: those that it was declared in, the innermost last.
        centered: how centered it was declared to be.
    """

    name: str
    place: str
    parameters: Parameters
    shape: tuple[int, ...]
    base_shape: tuple[int, ...]
    dtype: DTypeLike
    family: str
    base: Literal["normal", "prior"]
    location_scale: tuple[int, ...] | None
    plates: tuple[str, ...]
    centered: Centered


@dataclasses.dataclass(frozen=True, eq=False)
class DeclaredObserved:
    """An observation as the trace met it.

    Attributes:
        name: unique in the program.
        place: where it was declared.
        parameters: what is static of its distribution.
        shape: of the data.
        family: class of the distribution, without wrappers.
        plates: those that it was declared in, the innermost last.
    """

    name: str
    place: str
    parameters: Parameters
    shape: tuple[int, ...]
    family: str
    plates: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class DeclaredPlate:
    """A plate as the trace met it: its name, how many rows it has, how many are looked at."""

    name: str
    size: int
    rows: int


@dataclasses.dataclass(frozen=True, eq=False)
class DeclaredOutput:
    """The generated value as the trace met it: its name, where it was declared, its (traced) value, how centered."""

    name: str
    place: str
    value: Array
    centered: Centered


def kind(value: PyTree) -> str:
    """Return what something is, for a message."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    return f"a {type(value).__name__}"


def check_data(name: str, distribution: dist.Distribution, data: ArrayLike) -> None:
    """Raise unless data have the shape of a distribution's."""
    family = type(innermost(distribution)).__name__
    if np.shape(data) != distribution.shape():
        raise ProgramError(
            f"{here()}: observation {name!r} has data of shape {np.shape(data)}; its {family} is of shape "
            f"{distribution.shape()}. Give one number for each: index both alike, or change the parameters' shape."
        )


def refuse_scaled(name: str, by: PyTree) -> None:
    """Raise where `numpyro.handlers.scale` would weight a site."""
    if by is not None:
        raise ProgramError(
            f"{here()}: {name!r} stands under numpyro.handlers.scale, which weights its log-density by {by}; expected "
            "laws as they are, since latents are drawn from them too. Leave the handler out, or write the weight into "
            "the law (a normal law to the power w is one of scale / sqrt(w))."
        )


def refuse_unplated(name: str, distribution: dist.Distribution, plates: Mapping[int, str]) -> None:
    """Raise where a site within plates has rows of its own besides theirs, as where its shape is broadcast by mistake.

    Args:
        name: of the site.
        distribution: its law, of which each plate has made an axis.
        plates: name of the plate of each axis, counted from the end.
    """
    shape = tuple(distribution.batch_shape)
    missing = [axis for axis in range(-len(shape), 0) if shape[axis] > 1 and axis not in plates]
    if plates and missing:
        raise ProgramError(
            f"{here()}: {name!r} has a {type(innermost(distribution)).__name__} of batch shape {shape} within the "
            f"plates {sorted(plates.values())}; expected their axes alone, and axis {missing[0]}, of "
            f"{shape[missing[0]]}, is none of theirs. Give the parameters the plate's shape (a column of n rows is of "
            "shape (n, 1), a plate of n rows of shape (n,)), or make the axis part of one value by .to_event(1)."
        )


def refuse_discrete(name: str, distribution: dist.Distribution) -> None:
    """Raise where a latent has no density to move along."""
    core = innermost(distribution)
    if core.is_discrete or isinstance(core, dist.Delta):  # NumPyro does not count a point mass as discrete
        raise ProgramError(
            f"{here()}: latent {name!r} has the discrete distribution {type(core).__name__}; "
            "expected a continuous one, since latents move along gradients. Use a continuous relaxation, or a "
            "mixture whose component is summed out (dist.MixtureSameFamily)."
        )


def described(name: str, distribution: dist.Distribution) -> tuple[tuple[int, ...], PyTree, tuple[int, ...]]:
    """Return (shape, dtype, base shape) of a latent after trying its draw and its density, abstractly."""
    family = type(innermost(distribution)).__name__
    key = jax.eval_shape(lambda: jax.random.key(0))
    try:
        u = jax.eval_shape(lambda key: draw(key, distribution), key)
        z = jax.eval_shape(lambda u: push(distribution, u), u)
        jax.eval_shape(lambda u: log_base(distribution, u), u)
        base = base_shape(distribution)
    except Exception as error:
        raise ProgramError(
            f"{here()}: latent {name!r} cannot be drawn or scored under {family} ({type(error).__name__}: {error}); "
            "expected a proper continuous distribution. Give it a proper prior, for example "
            "dist.Normal(jnp.zeros(2), 1.0)."
        ) from error
    if z.size == 0:
        raise ProgramError(
            f"{here()}: latent {name!r} has shape {z.shape}, which holds no element; expected at least one. "
            "Check the shape of the distribution's parameters."
        )
    expected = jnp.result_type(float)  # float32, or float64 where JAX is set to double precision
    if z.dtype != expected or u.dtype != expected:
        raise ProgramError(
            f"{here()}: latent {name!r} has dtype {z.dtype}; expected {expected}. "
            f"Convert the distribution's parameters with .astype(jnp.{expected})."
        )
    return tuple(z.shape), np.dtype(z.dtype), tuple(base)


def how_centered(name: str, centered: PyTree, shape: tuple[int, ...], movable: bool) -> Centered:
    """Return what `centered=` says of a site, as numbers; raise where it says nothing that can be.

    Args:
        name: of the site.
        centered: True, False, a number of [0, 1], an array of such, or "auto".
        shape: of the site's base coordinates, which an array goes with.
        movable: whether the site is of a location-scale family.
    """
    if isinstance(centered, str) and centered == "auto":
        return "auto"
    if isinstance(centered, jax.core.Tracer):
        raise ProgramError(
            f"{here()}: site {name!r} has a traced value as `centered`; expected numbers that are known when the "
            'program is declared. Write a number or a NumPy array, or "auto" to have it chosen.'
        )
    try:
        numbers = np.asarray(centered, np.float64)
        spread = np.broadcast_to(numbers, shape).ravel()
    except (TypeError, ValueError):
        raise ProgramError(
            f"{here()}: site {name!r} has centered={centered!r}; expected True, False, a number from 0 to 1, an array "
            f'of them of shape {shape}, or "auto". Leave it out to have it chosen.'
        ) from None
    if not np.all((spread >= 0) & (spread <= 1)):
        raise ProgramError(
            f"{here()}: site {name!r} has centered={centered!r}; expected numbers from 0, non-centered, to 1, centered."
        )
    if not movable:
        raise ProgramError(
            f"{here()}: site {name!r} has centered={centered!r}, but its law is of no location-scale family with real "
            "support (or of one seen through a map that cannot be undone), so that there is nothing to center it on. "
            "Leave `centered` out."
        )
    return float(numbers) if numbers.ndim == 0 else tuple(float(number) for number in spread)


def positions(distribution: dist.Distribution, arrays: list[PyTree]) -> tuple[int, ...] | None:
    """Return where loc and scale are among the arrays of a distribution; None for other families."""
    found = location_scale(distribution)
    if found is None:
        return None
    return tuple(i for i, array in enumerate(arrays) if any(array is parameter for parameter in found))
