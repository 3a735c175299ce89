"""Columns of data, and the parameters of a program's ``__call__`` that name them."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from pplemd.dsl.inputs import HostColumn
from pplemd.dsl.locations import defined
from pplemd.dsl.program import Program
from pplemd.errors import DataError, ProgramError

Column = Array | np.ndarray | float | int


def columns_of(program: Program, data: Mapping[str, Any], by_row: bool) -> dict[str, Array | HostColumn]:
    """Return the data that a program takes, as arrays; where it takes rows, memory-mapped ones stay on the host.

    Args:
        program: its `__call__` names them.
        data: a column for each name.
        by_row: whether the first axis of all of them is rows.

    Raises:
        ProgramError: a parameter without a column, or a column without a parameter.
        DataError: what is no array of numbers, or columns of different lengths.
    """
    _check_names(program, data)
    columns = {name: _column(name, one, by_row) for name, one in data.items()}
    if by_row:
        lengths = {name: one.shape[0] if one.shape else None for name, one in columns.items()}
        if len(set(lengths.values())) > 1 or not all(lengths.values()):
            found = ", ".join(f"{name!r} {'a scalar' if n is None else f'{n:,}'}" for name, n in lengths.items())
            raise DataError(
                f"found columns of rows of the lengths {found}; expected one length above 0. Give each row a value in "
                "every column, or take all data together (`rows=None`)."
            )
    return columns


def _check_names(program: Program, data: Mapping[str, Any]) -> None:
    place, name = defined(program), type(program).__name__
    parameters = inspect.signature(program.__call__).parameters
    named = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    if any(one.kind not in named for one in parameters.values()):
        found = ", ".join(["self", *(str(one) for one in parameters.values())])
        raise ProgramError(
            f"{place}: {name}.__call__ has the arguments ({found}); expected a plain name for each column of data, "
            "such as (self, image). Name them one by one, or make them fields of the program."
        )
    missing = [one.name for one in parameters.values() if one.default is inspect.Parameter.empty]
    missing = [one for one in missing if one not in data]
    if missing:
        raise ProgramError(
            f"{place}: {name}.__call__ takes {_listed(missing)}, of which there are no data; found "
            f"{f'the columns {_listed(data)}' if data else 'no data'}. Give each parameter a column: "
            f"em.Fit(..., data={{{missing[0]!r}: array}})."
        )
    extra = [one for one in data if one not in parameters]
    if extra:
        expected = f"columns of its parameters alone, {_listed(parameters)}" if parameters else "no data"
        raise ProgramError(
            f"{place}: there are data {_listed(extra)}, which {name}.__call__ does not take; expected {expected}. "
            f"Leave them out of `data`, or add the parameter: __call__(self, {extra[0]})."
        )


def _column(name: str, found: Any, by_row: bool) -> Array | HostColumn:
    kind = np.asarray(found).dtype.kind if np.isscalar(found) else getattr(getattr(found, "dtype", None), "kind", None)
    if kind not in ("b", "i", "u", "f", "V"):  # V: bfloat16 and its like
        raise DataError(
            f"column {name!r} is {_described(found)}; expected an array of numbers. Convert it with np.asarray, and "
            "code words as numbers: np.unique(words, return_inverse=True)."
        )
    if isinstance(found, np.ndarray) and found.dtype.kind in "iu" and found.size and not isinstance(found, np.memmap):
        _check_range(name, found)
    if by_row and isinstance(found, np.memmap) and found.ndim:
        return HostColumn(found)
    return jnp.asarray(found)


def _check_range(name: str, found: np.ndarray) -> None:
    kept = np.iinfo(jax.dtypes.canonicalize_dtype(found.dtype))
    low, high = int(found.min()), int(found.max())
    if low < kept.min or high > kept.max:
        raise DataError(
            f"column {name!r} has whole numbers from {low} to {high}; expected {kept.min} to {kept.max}, which JAX "
            "counts in. Number what they stand for from 0 (np.unique(..., return_inverse=True)), or make them float."
        )


def _described(found: Any) -> str:
    dtype = getattr(found, "dtype", None)
    return f"a {type(found).__name__}" if dtype is None else f"an array of {dtype}"


def _listed(names: Any) -> str:
    return ", ".join(repr(one) for one in names)
