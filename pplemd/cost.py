"""Floating-point operations and memory of a function, counted on its trace: nothing is compiled or run."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

OTHER = "other"  # the part of what lies in no named one


def traced(function: Callable, *shapes: Any) -> Jaxpr:
    """The trace of a function, to be counted.

    Args:
        function: any function that JAX can trace.
        shapes: its arguments: pytrees of arrays or of their shapes.
    """
    return jax.make_jaxpr(function)(*shapes).jaxpr


def operations(function: Callable, *shapes: Any) -> float:
    """Floating-point operations of one call, loops counted as often as they run.

    A product of matrices or a convolution costs two operations for each multiplication; everything else one for each
    entry of its result. Of branches the dearest counts; a loop of unknown length counts once.

    Args:
        function: any function that JAX can trace.
        shapes: its arguments: pytrees of arrays or of their shapes.
    """
    return _count(traced(function, *shapes))


def operations_of_parts(trace: Jaxpr, parts: tuple[str, ...]) -> dict[str, float]:
    """Operations by part, as `jax.named_scope` names parts at the top of a trace; the rest is `other`.

    Args:
        trace: the trace.
        parts: names of parts.
    """
    found = dict.fromkeys((*parts, OTHER), 0.0)
    for equation in trace.eqns:
        stack = str(equation.source_info.name_stack)
        found[next((part for part in parts if part in stack), OTHER)] += _equation(equation)
    return found


def peak_bytes(trace: Jaxpr) -> int:
    """Most bytes of results that are alive at once, arguments left out, if each operation ran in order on its own.

    A compiler fuses operations, so that it needs less, and pads and overlaps them, so that it needs more.

    Args:
        trace: the trace.
    """
    last = {variable: place for place, equation in enumerate(trace.eqns) for variable in _variables(equation.invars)}
    last |= dict.fromkeys(_variables(trace.outvars), len(trace.eqns))
    own: dict[Any, int] = {}
    peak = alive = 0
    for place, equation in enumerate(trace.eqns):
        made = {variable: _bytes(variable) for variable in equation.outvars}
        inside = max(map(peak_bytes, _inner(equation.params)), default=0)
        results = sum(made.values())
        stacked = equation.primitive.name in ("scan", "while")
        peak = max(peak, alive + (results + inside if stacked else max(results, inside)))
        own |= made
        alive += results
        for variable in {*_variables(equation.invars), *equation.outvars}:
            if last.get(variable, place) <= place:
                alive -= own.pop(variable, 0)
    return peak


def _variables(items: Any) -> list[Any]:
    return [item for item in items if not isinstance(item, Literal)]


def _bytes(variable: Any) -> int:
    shape, dtype = getattr(variable.aval, "shape", ()), getattr(variable.aval, "dtype", None)
    numeric = dtype is not None and not jax.dtypes.issubdtype(dtype, jax.dtypes.extended)
    return math.prod(shape) * (np.dtype(dtype).itemsize if numeric else 4)


def _count(jaxpr: Jaxpr) -> float:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    inner = [_count(jaxpr) for jaxpr in _inner(params)]
    if name == "scan":
        return params["length"] * sum(inner)
    if inner:
        return max(inner) if name == "cond" else sum(inner)
    size = sum(math.prod(out.aval.shape) for out in equation.outvars if "float" in str(out.aval.dtype))
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2.0 * size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2.0 * size * math.prod(kernel) / out_features
    return float(size)


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The traces inside an operation: bodies of loops, branches, nested calls."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item
