"""What the user is told about an exception that was raised in the ``__call__`` of a program."""

import contextlib
from collections.abc import Iterator

import jax.numpy as jnp
from jax import errors

from pplemd.dsl.locations import place_of
from pplemd.errors import PplemdError, ProgramError

_CONCRETE = (errors.ConcretizationTypeError, errors.TracerIntegerConversionError, errors.NonConcreteBooleanIndexError)


@contextlib.contextmanager
def explained(expected: str = "the program to run once on traced values") -> Iterator[None]:
    """Turn any exception into a `ProgramError` that tells its place, its cause and the usual repair.

    Args:
        expected: what should have come to pass.
    """
    try:
        yield
    except PplemdError:
        raise
    except Exception as error:
        raise ProgramError(f"{place_of(error)}: {_explanation(error, expected)}") from error


def _explanation(error: Exception, expected: str) -> str:
    if isinstance(error, errors.TracerBoolConversionError):
        return (
            "found a branch (if, while, and, or) on a traced value; expected branches on shapes and settings only, "
            "since the program is traced once for all values. Use jnp.where or jax.lax.cond."
        )
    if isinstance(error, errors.TracerArrayConversionError):
        return (
            "found NumPy applied to a traced value; expected jax.numpy. Replace np by jnp there, and move what needs "
            "NumPy into a field of the program."
        )
    if isinstance(error, _CONCRETE):
        return (
            "found a traced value where Python needs a concrete one (int(), float(), a shape, an index or a boolean "
            "mask); expected those to come from shapes and settings. Use jnp.where, jax.lax.dynamic_slice or a field "
            f"of the program. JAX says: {_first_line(error)}"
        )
    if isinstance(error, errors.UnexpectedTracerError):
        return (
            "found a traced value that left its transformation; expected values to be returned, not stored. Return "
            f"it from the transformed function. JAX says: {_first_line(error)}"
        )
    owner, called, _ = str(error).partition(".__init__() ")
    if isinstance(error, TypeError) and called:
        return f"found {_message(error)}; expected the arguments that {owner} takes. See help({owner})."
    if "float64" in str(error) and jnp.result_type(float) == jnp.float32:
        return (
            f"found {type(error).__name__}: {_message(error)}; expected arrays of 32 bits, in which this is computed. "
            "It refers to one that was made in JAX's 64-bit mode: make that by NumPy, or inside of the function, or "
            "leave JAX_ENABLE_X64 (or numpyro.enable_x64()) out."
        )
    return (
        f"found {type(error).__name__}: {_message(error)}; expected {expected}. "
        "Repair that line; shapes are those of one sample, without a batch dimension."
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _message(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return "\n".join(lines[:8]).rstrip(".") or "(no message)"  # the rest of a long one is in the cause
