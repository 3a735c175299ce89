"""Where in the user's files something was declared or went wrong."""

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
import jaxtyping
import numpyro

import pplemd.errors

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
