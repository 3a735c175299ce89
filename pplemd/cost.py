"""Floating-point operations of a function, counted on its trace: nothing is compiled or run."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def operations(function: Callable, *shapes: Any) -> float:
    """Floating-point operations of one call, loops counted as often as they run.

    A product of matrices or a convolution costs two operations for each multiplication; everything else one for each
    entry of its result. Of branches the dearest counts; a loop of unknown length counts once.

    Args:
        function: any function that JAX can trace.
        shapes: its arguments: pytrees of arrays or of their shapes.
    """
    return _count(jax.make_jaxpr(function)(*shapes).jaxpr)


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
