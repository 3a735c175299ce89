"""The two declarations of a program, on NumPyro's effect handlers: the one module that meets them."""

import dataclasses
from typing import Any, Literal

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.primitives import Messenger, apply_stack

from pplemd.dsl.graph import Parameters, bind_latent, split_parameters
from pplemd.dsl.places import here
from pplemd.dsl.transport import base_shape, draw, has_normal_base, innermost, location_scale, log_base, push, unmask
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
    """

    name: str
    place: str
    parameters: Parameters
    shape: tuple[int, ...]
    base_shape: tuple[int, ...]
    dtype: Any
    family: str
    base: Literal["normal", "prior"]
    location_scale: tuple[int, ...] | None


@dataclasses.dataclass(frozen=True, eq=False)
class DeclaredOutput:
    """The generated value as the trace met it: its name, where it was declared, its (traced) value."""

    name: str
    place: str
    value: Array


def latent(name: str, distribution: dist.Distribution) -> Float[Array, "..."]:
    """Declare a latent variable of the program.

    Args:
        name: unique in the program.
        distribution: continuous NumPyro distribution of one sample's value.

    Returns:
        The (traced) value of the latent, of shape ``distribution.shape()``.

    Raises:
        ProgramError: called outside of a trace, or something that cannot be a latent.
    """
    declarations = _active("latent")
    declarations.check_name(name, "latent")
    if not isinstance(distribution, dist.Distribution):
        raise ProgramError(
            f"{here()}: latent {name!r} was given {_kind(distribution)}; expected a NumPyro distribution. "
            'Write for example latent("z", dist.Normal(jnp.zeros(2), 1.0)), with numpyro.distributions as dist.'
        )
    return numpyro.sample(name, distribution)


def generate(name: str, value: Float[Array, "..."]) -> Float[Array, "..."]:
    """Declare the generated value x = g(z) of the program, once, and return it.

    Args:
        name: unique in the program.
        value: of the teacher's shape, float32.

    Raises:
        ProgramError: called outside of a trace, twice, or with something that is not an array.
    """
    declarations = _active("generate")
    declarations.check_name(name, "generate")
    return apply_stack(_message("pplemd_generate", name, value))["value"]


def _message(kind: str, name: str, value: Any) -> Any:
    empty: dict[str, Any] = {"fn": lambda: None, "args": (), "kwargs": {}, "cond_indep_stack": [], "scale": None}
    return {**empty, "type": kind, "name": name, "value": value}


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

    def __init__(self) -> None:
        super().__init__()
        self.latents: list[DeclaredLatent] = []
        self.outputs: list[DeclaredOutput] = []
        self._trace_state = jex.get_opaque_trace_state()

    def process_message(self, msg: Any) -> None:
        """Answer a declaration; other messages pass."""
        if msg["type"] == "pplemd_active":
            msg["value"], msg["stop"] = self, True
        elif msg["type"] == "pplemd_generate":
            self._generate(msg["name"], msg["value"])
            msg["stop"] = True
        elif msg["type"] == "sample":
            _refuse_observed(msg)
            msg["value"], msg["stop"] = self._latent(msg["name"], msg["fn"]), True
        elif msg["type"] == "param":
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
        sites: list[DeclaredLatent | DeclaredOutput] = [*self.latents, *self.outputs]
        for site in sites:
            if site.name == name:
                raise ProgramError(
                    f"{here()}: two sites are called {name!r} (the first at {site.place}); expected every latent and "
                    "the generated value to have a name of its own. Rename one of them."
                )

    def _latent(self, name: str, distribution: dist.Distribution) -> Array:
        self.check_name(name, "latent")
        distribution = unmask(distribution)
        _refuse_discrete(name, distribution)
        shape, dtype, base = _describe(name, distribution)
        parameters, arrays = split_parameters(distribution)
        declared = DeclaredLatent(
            name=name,
            place=here(),
            parameters=parameters,
            shape=shape,
            base_shape=base,
            dtype=dtype,
            family=type(innermost(distribution)).__name__,
            base="normal" if has_normal_base(distribution) else "prior",
            location_scale=_positions(distribution, arrays),
        )
        self.latents.append(declared)
        return bind_latent(len(self.latents) - 1, arrays, shape, dtype)

    def _generate(self, name: str, value: Any) -> None:
        if self.outputs:
            first = self.outputs[0]
            raise ProgramError(
                f"{here()}: {name!r} is a second generated value (the first is {first.name!r}, at {first.place}); "
                "expected one. Concatenate them into one array, or keep one."
            )
        if not isinstance(value, jax.Array):
            raise ProgramError(
                f"{here()}: generate {name!r} was given {_kind(value)}; expected a JAX array. "
                "Pass the array that the network returned."
            )
        self.outputs.append(DeclaredOutput(name, here(), value))


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    return f"a {type(value).__name__}"


def _refuse_observed(msg: Any) -> None:
    if msg["is_observed"]:
        raise ProgramError(
            f"{here()}: site {msg['name']!r} is observed (obs= or factor); expected latents only, since the teacher "
            "takes the place of the data. Remove the observation."
        )


def _refuse_discrete(name: str, distribution: dist.Distribution) -> None:
    core = innermost(distribution)
    if core.is_discrete or isinstance(core, dist.Delta):  # NumPyro does not count a point mass as discrete
        raise ProgramError(
            f"{here()}: latent {name!r} has the discrete distribution {type(core).__name__}; "
            "expected a continuous one, since latents move along gradients. Use a continuous relaxation, or a "
            "mixture whose component is summed out (dist.MixtureSameFamily)."
        )


def _describe(name: str, distribution: dist.Distribution) -> tuple[tuple[int, ...], Any, tuple[int, ...]]:
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


def _positions(distribution: dist.Distribution, arrays: list[Any]) -> tuple[int, ...] | None:
    found = location_scale(distribution)
    if found is None:
        return None
    return tuple(i for i, array in enumerate(arrays) if any(array is parameter for parameter in found))
