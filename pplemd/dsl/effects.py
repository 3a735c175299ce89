"""The declarations of a program, on NumPyro's effect handlers: what they may be, and what they leave behind."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float, Int, PyTree, Real, Shaped
from numpyro.primitives import Messenger, apply_stack

from pplemd.dsl.graph import Parameters, bind_latent, bind_observed, bind_plate, split_parameters
from pplemd.dsl.locations import here
from pplemd.dsl.problem import Centered
from pplemd.dsl.transport import base_shape, draw, has_normal_base, innermost, location_scale, log_base, push
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
        distribution: as declared, with an axis for each plate.
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


def unmask(distribution: dist.Distribution) -> dist.Distribution:
    """Return the distribution without its masks, wherever in it they are."""

    def bare(node: Any) -> Any:
        return unmask(node.base_dist) if _is_mask(node) else node

    return jax.tree.map(bare, distribution, is_leaf=_is_mask)


def unmasked(name: str, distribution: dist.Distribution, before: str | None) -> dist.Distribution:
    """Return the distribution that a latent is drawn from.

    What NumPyro's `obs_mask` imputes is drawn from its whole law: where data were seen, that value is not looked at
    and its density integrates to one.

    Args:
        name: of the latent.
        distribution: as declared; a mask that leaves nothing out is no mask.
        before: the observation declared just before, if there is one.

    Raises:
        ProgramError: a mask leaves something out, or may.
    """
    masks = _masks(distribution)
    if masks and not imputed(name, before) and not all(map(_is_whole, masks)):
        how = "in part" if any(isinstance(mask, jax.core.Tracer) or np.any(mask) for mask in masks) else "wholly"
        raise ProgramError(
            f"{here()}: latent {name!r} is masked {how}: without its prior there it is flat, and a flat latent cannot "
            "be drawn. Take the mask off the latent: declare it outside of numpyro.handlers.mask, and mask the "
            "observation alone where data are missing. A flat prior is a wide one, for example "
            "dist.Normal(0.0, 1000.0), or a NumPyro model's (em.posterior)."
        )
    return unmask(distribution)


def imputed(name: str, before: str | None) -> bool:
    """Whether a latent stands for the data that NumPyro's `obs_mask` calls missing: its pair comes just before it."""
    return before is not None and before.endswith("_observed") and name == f"{before[: -len('_observed')]}_unobserved"


def _masks(distribution: dist.Distribution) -> list[Any]:
    nodes = [node for node in jax.tree.leaves(distribution, is_leaf=_is_mask) if _is_mask(node)]
    # NumPyro has no other access to a mask
    return [mask for node in nodes for mask in (node._mask, *_masks(node.base_dist))]


def _is_mask(node: Any) -> bool:
    return isinstance(node, dist.MaskedDistribution)


def _is_whole(mask: Any) -> bool:
    return not isinstance(mask, jax.core.Tracer) and bool(np.all(mask))


Lambda = bool | float | Sequence[float] | Real[Array, "..."] | Real[np.ndarray, "..."]


def latent(
    name: str, distribution: dist.Distribution, centered: Lambda | Literal["auto"] = "auto"
) -> Float[Array, "..."]:
    """Declare a latent variable of the program.

    Args:
        name: unique in the program.
        distribution: continuous NumPyro distribution of one sample's value.
        centered: in which coordinates chains move it: True for its value, False for its noise, a number between for
            something between, an array for each element alone; "auto" to have it chosen from the chains' own draws.
            Of a location-scale family alone, whose location or scale depends on a latent or on what is trained.

    Returns:
        The (traced) value of the latent, of shape ``distribution.shape()``.

    Raises:
        ProgramError: called outside of a trace, or something that cannot be a latent.
    """
    declarations = _active("latent")
    declarations.check_name(name, "latent")
    if not isinstance(distribution, dist.Distribution):
        raise ProgramError(
            f"{here()}: latent {name!r} was given {kind(distribution)}; expected a NumPyro distribution. "
            'Write for example latent("z", dist.Normal(jnp.zeros(2), 1.0)), with numpyro.distributions as dist.'
        )
    return numpyro.sample(name, distribution, infer={"centered": centered})


def observe(
    name: str, distribution: dist.Distribution, data: Shaped[Array, "..."] | Shaped[np.ndarray, "..."]
) -> Shaped[Array, "..."]:
    """Declare what was observed: data that follow a distribution given the latents.

    Args:
        name: unique in the program.
        distribution: NumPyro distribution of the data, continuous or discrete; what its mask leaves out is not looked
            at, as in ``dist.Normal(mean, 1.0).mask(present)``.
        data: of shape ``distribution.shape()``; a parameter of the program's ``__call__``, or what it closes over.

    Returns:
        The data.

    Raises:
        ProgramError: called outside of a trace, or with data that the distribution cannot have given.
    """
    declarations = _active("observe")
    declarations.check_name(name, "observe")
    if not isinstance(distribution, dist.Distribution):
        raise ProgramError(
            f"{here()}: observe {name!r} was given {kind(distribution)}; expected a NumPyro distribution. "
            'Write for example observe("y", dist.Normal(mean, 1.0), y), with numpyro.distributions as dist.'
        )
    return numpyro.sample(name, distribution, obs=data)


@contextlib.contextmanager
def plate(name: str, size: int) -> Iterator[Int[Array, " rows"]]:
    """Declare that what is declared within is independent row by row; every site has the rows as its first axis.

    Where a program is fitted by minibatches, only some rows are looked at. Index data with what this yields:

        with em.plate("houses", len(Y)) as rows:
            em.observe("y", dist.Normal(mean[rows], 1.0), Y[rows])

    Args:
        name: unique in the program.
        size: how many rows there are.

    Yields:
        The rows that are looked at: all of them, or a minibatch's.

    Raises:
        ProgramError: called outside of a trace, or with a size that is none.
    """
    declarations = _active("plate")
    if not isinstance(size, int) or size < 1:
        raise ProgramError(f"{here()}: plate {name!r} was given the size {size!r}; expected a positive integer.")
    looked_at = None if declarations.rows is None else min(size, declarations.rows)
    with numpyro.plate(name, size, subsample_size=looked_at) as rows:
        declarations.note_plate(name, size, rows.shape[0])
        yield rows


def generate(name: str, value: Float[Array, "..."], centered: Lambda | Literal["auto"] = "auto") -> Float[Array, "..."]:
    """Declare the generated value x = g(z) of the program, once, and return it.

    Args:
        name: unique in the program.
        value: of the teacher's shape, float32.
        centered: in which coordinates the E-step of a distillation moves x_sigma ~ N(g(z), sigma): True for x_sigma
            beside z, False for its noise eps beside z, or between; "auto" to have it chosen for each range of sigma.

    Raises:
        ProgramError: called outside of a trace, twice, or with something that is not an array.
    """
    declarations = _active("generate")
    declarations.check_name(name, "generate")
    return apply_stack(_message("pplemd_generate", name, value, centered))["value"]


def _message(kind: str, name: str, value: Any, centered: Any = "auto") -> Any:
    empty: dict[str, Any] = {"fn": lambda: None, "args": (), "kwargs": {}, "cond_indep_stack": [], "scale": None}
    return {**empty, "type": kind, "name": name, "value": value, "infer": {"centered": centered}}


def _active(caller: str) -> "Declarations":
    found = apply_stack(_message("pplemd_active", caller, None))["value"]
    if found is None:
        raise ProgramError(
            f"{here()}: {caller} was called outside of a trace; expected a call from the __call__ of a Program that "
            "pplemd traces. Pass the program to pplemd instead of calling it, and call the networks directly to "
            "look at their values."
        )
    return found


class Declarations(Messenger):
    """Handler that records the declarations of one trace, in order."""

    def __init__(self, rows: int | None = None, single: bool = False) -> None:
        super().__init__()
        self.rows = rows  # of each plate that are looked at together; None for all
        self.single = single  # whether the program is declared for one row of its data
        self.latents: list[DeclaredLatent] = []
        self.observed: list[DeclaredObserved] = []
        self.plates: list[DeclaredPlate] = []
        self.outputs: list[DeclaredOutput] = []
        self._trace_state = jex.get_opaque_trace_state()

    def process_message(self, msg: Any) -> None:
        """Answer a declaration; other messages pass."""
        if msg["type"] == "pplemd_active":
            msg["value"], msg["stop"] = self, True
        elif msg["type"] == "pplemd_generate":
            self._generate(msg["name"], msg["value"], msg["infer"]["centered"])
            msg["stop"] = True
        elif msg["type"] == "sample":
            refuse_scaled(msg["name"], msg.get("plate_to_scale", {}).get(None))
            frames = msg["cond_indep_stack"]
            refuse_unplated(msg["name"], msg["fn"], {frame.dim: frame.name for frame in frames})
            plates = tuple(frame.name for frame in reversed(frames))
            if msg["is_observed"]:
                name = msg["name"]
                distribution = msg["fn"]
                data = msg["value"]
                self.check_name(name, "observe")
                data = jnp.asarray(data)
                check_data(name, distribution, data)
                parameters, arrays = split_parameters(distribution)
                family = type(innermost(distribution)).__name__
                self.observed.append(DeclaredObserved(name, here(), parameters, data.shape, family, plates))
                msg["value"] = bind_observed(len(self.observed) - 1, arrays, data)
            else:
                msg["value"] = self._latent(msg["name"], msg["fn"], plates, msg["infer"].get("centered", "auto"))
            msg["stop"] = True
        elif msg["type"] == "plate" and msg["value"] is None:  # only some of its rows are looked at
            msg["value"], msg["stop"] = bind_plate(msg["name"], msg["args"][1]), True
        elif msg["type"] == "param" and msg["value"] is None:  # one that has a value is a constant
            raise ProgramError(
                f"{here()}: found the NumPyro parameter {msg['name']!r}; expected what is trained to be a field of "
                "the program. Make it a field."
            )

    def check_name(self, name: Any, caller: str) -> None:
        """Raise unless the name is new and the declaration stands directly in the program."""
        if not isinstance(name, str) or not name:
            raise ProgramError(
                f"{here()}: {caller} was given the name {name!r}; expected a string that is not empty. "
                f'Write the name first: {caller}("{"z" if caller == "latent" else "x"}", ...).'
            )
        if jex.get_opaque_trace_state() != self._trace_state:
            raise ProgramError(
                f"{here()}: {caller} {name!r} was called inside of a JAX transformation (jit, vmap, scan, cond, grad); "
                "expected it directly in the program's __call__. Declare one site of the full shape outside and "
                "transform only what uses its value."
            )
        sites: list[DeclaredLatent | DeclaredObserved | DeclaredOutput]
        sites = [*self.latents, *self.observed, *self.outputs]
        for site in sites:
            if site.name == name:
                raise ProgramError(
                    f"{here()}: two sites are called {name!r} (the first at {site.place}); expected every latent, "
                    "observation and the generated value to have a name of its own. Rename one of them."
                )

    def note_plate(self, name: str, size: int, rows: int) -> None:
        """Record a plate."""
        if self.single:
            raise ProgramError(
                f"{here()}: plate {name!r} stands in a program that takes its data row by row; expected declarations "
                "for one row, since minibatches of rows are independent as they are. Leave the plate out, or take all "
                "rows together (`rows=None`)."
            )
        if any(one.name == name for one in self.plates):
            raise ProgramError(f"{here()}: two plates are called {name!r}; expected a name for each. Rename one.")
        self.plates.append(DeclaredPlate(name, size, rows))

    def _latent(self, name: str, distribution: dist.Distribution, plates: tuple[str, ...], centered: Any) -> Array:
        self.check_name(name, "latent")
        distribution = unmasked(name, distribution, self.observed[-1].name if self.observed else None)
        refuse_discrete(name, distribution)
        shape, dtype, base = described(name, distribution)
        parameters, arrays = split_parameters(distribution)
        moved = positions(distribution, arrays)
        declared = DeclaredLatent(
            name=name,
            place=here(),
            parameters=parameters,
            shape=shape,
            base_shape=base,
            dtype=dtype,
            family=type(innermost(distribution)).__name__,
            base="normal" if has_normal_base(distribution) else "prior",
            location_scale=moved,
            plates=plates,
            centered=how_centered(name, centered, base, moved is not None),
        )
        self.latents.append(declared)
        return bind_latent(len(self.latents) - 1, arrays, shape, dtype)

    def _generate(self, name: str, value: Any, centered: Any) -> None:
        if self.outputs:
            first = self.outputs[0]
            raise ProgramError(
                f"{here()}: {name!r} is a second generated value (the first is {first.name!r}, at {first.place}); "
                "expected one. Concatenate them into one array, or keep one."
            )
        if not isinstance(value, jax.Array):
            raise ProgramError(
                f"{here()}: generate {name!r} was given {kind(value)}; expected a JAX array. "
                "Pass the array that the network returned."
            )
        self.outputs.append(DeclaredOutput(name, here(), value, how_centered(name, centered, value.shape, True)))
