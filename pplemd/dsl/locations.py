"""Where in the user's files something was declared or went wrong, and what is said of it."""

import contextlib
import inspect
import os
import sys
import sysconfig
import traceback
import types
from collections.abc import Iterable, Iterator
from pathlib import Path

import equinox
import jax
import jax.numpy as jnp
import jaxtyping
import numpyro
from jax import errors

import pplemd.errors
from pplemd.errors import PplemdError, ProgramError

_MODULES = (pplemd.errors, equinox, jax, jaxtyping, numpyro)
_LIBRARIES = tuple(
    {str(Path(module.__file__).resolve().parent) + os.sep for module in _MODULES if module.__file__}
    | {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def shown(path: str | Path) -> str:
    """Return the path as the user would write it: relative if it lies below the working folder."""
    resolved, folder = Path(path).resolve(), Path.cwd()
    return str(resolved.relative_to(folder)) if resolved.is_relative_to(folder) else str(path)


def here() -> str:
    """Return the innermost line of the user's code that is being executed."""
    return _innermost(_frames_outward(sys._getframe(1)))


def place_of(error: BaseException) -> str:
    """Return the innermost line of the user's code in the traceback of an error."""
    return _innermost(reversed(list(traceback.walk_tb(error.__traceback__))))


def _frames_outward(frame: types.FrameType | None) -> Iterator[tuple[types.FrameType, int]]:
    while frame is not None:
        yield frame, frame.f_lineno
        frame = frame.f_back


def _innermost(frames: Iterable[tuple[types.FrameType, int]]) -> str:
    for frame, line in frames:
        if _is_users(frame.f_code.co_filename):
            name = frame.f_code.co_qualname.rsplit("<locals>.", 1)[-1]
            return f"{shown(frame.f_code.co_filename)}, line {line}, in {name}"
    return "the program"


def _is_users(filename: str) -> bool:
    if filename.startswith("<"):  # frozen and generated code; what was typed at a prompt is the user's
        return filename == "<stdin>" or filename.startswith("<ipython")
    return not os.path.realpath(filename).startswith(_LIBRARIES)


def defined(program: object) -> str:
    """Return where the ``__call__`` of a program is defined."""
    code = getattr(inspect.unwrap(type(program).__call__), "__code__", None)
    if code is None:
        return type(program).__name__
    name = code.co_qualname.rsplit("<locals>.", 1)[-1]
    return f"{shown(code.co_filename)}, line {code.co_firstlineno}, in {name}"


_CONCRETE = (errors.ConcretizationTypeError, errors.TracerIntegerConversionError, errors.NonConcreteBooleanIndexError)


@contextlib.contextmanager
def explained(expected: str = "the program to run once on traced values") -> Iterator[None]:
    """Turn any exception into a `ProgramError` that says its place, its cause and the usual repair.

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
