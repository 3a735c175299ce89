"""The declarations of a program, on NumPyro's effect handlers: the one module that meets them."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int, Real, Shaped
from numpyro.primitives import Messenger, apply_stack

from pplemd.dsl.declarations import (
    DeclaredLatent,
    DeclaredObserved,
    DeclaredOutput,
    DeclaredPlate,
    check_data,
    described,
    how_centered,
    kind,
    positions,
    refuse_discrete,
    refuse_scaled,
    refuse_unplated,
)
from pplemd.dsl.graph import bind_latent, bind_observed, bind_plate, split_parameters
from pplemd.dsl.locations import here
from pplemd.dsl.masks import unmasked
from pplemd.dsl.transport import has_normal_base, innermost
from pplemd.errors import ProgramError

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
                msg["value"] = self._observe(msg["name"], msg["fn"], msg["value"], plates)
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

    def _observe(self, name: str, distribution: dist.Distribution, data: Any, plates: tuple[str, ...]) -> Array:
        self.check_name(name, "observe")
        data = jnp.asarray(data)
        check_data(name, distribution, data)
        parameters, arrays = split_parameters(distribution)
        family = type(innermost(distribution)).__name__
        self.observed.append(DeclaredObserved(name, here(), parameters, data.shape, family, plates))
        return bind_observed(len(self.observed) - 1, arrays, data)

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
