"""Floating-point operations of a function, counted on its trace: nothing is compiled or run."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr
from jaxtyping import PyTree

OTHER = "other"  # the part of what lies in no named one


def traced(function: Callable, *shapes: PyTree) -> Jaxpr:
    """The trace of a function, to be counted.

    Args:
        function: any function that JAX can trace.
        shapes: its arguments: pytrees of arrays or of their shapes.
    """
    return jax.make_jaxpr(function)(*shapes).jaxpr


def operations(function: Callable, *shapes: PyTree) -> float:
    """Floating-point operations of one call, loops counted as often as they run.

    A product of matrices or a convolution costs two operations for each multiplication; everything else one for each
    entry of its result. Of branches the dearest counts; a loop of unknown length counts once.

    Args:
        function: any function that JAX can trace.
        shapes: its arguments: pytrees of arrays or of their shapes.
    """
    return _count(traced(function, *shapes))


def products(trace: Jaxpr) -> float:
    """Operations of the products of matrices and of the convolutions of a trace alone: what a device's peak counts."""
    return sum(_equation(equation, others=0.0) for equation in trace.eqns)


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


def _count(jaxpr: Jaxpr, others: float = 1.0) -> float:
    return sum(_equation(equation, others) for equation in jaxpr.eqns)


def _equation(equation: Any, others: float = 1.0) -> float:
    """Operations of one, with a weight for what is neither product nor convolution."""
    name, params = equation.primitive.name, equation.params
    inner = [_count(jaxpr, others) for jaxpr in traces_in(params)]
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
    return others * size


def traces_in(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """The traces inside an operation: bodies of loops, branches, nested calls."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item
