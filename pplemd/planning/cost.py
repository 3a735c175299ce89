"""Operations and memory of a function, counted on its trace: nothing is compiled or run."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
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


INLINED = {"pjit", "jit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
WHOLE = {"dot_general", "conv_general_dilated", "sort", "fft", "scan", "while", "cond", "checkpoint", "remat", "remat2"}
WRITTEN = {"concatenate", "gather", "scatter", "scatter_add", "dynamic_update_slice", "random_bits", "cumsum"}
MOST = 2  # arrays that an elementwise result is fused from; one of more is written down


@dataclasses.dataclass(eq=False)
class Value:
    """An array on the way.

    Attributes:
        bytes: its size; 0 for one that is kept anyway.
        kept: whether it is written down.
        roots: what is written down and has to be there for it to be computed.
        last: place of the last operation that needs it.
    """

    bytes: int
    kept: bool
    roots: frozenset["Value"] = frozenset()
    last: int = -1

    def sources(self) -> "frozenset[Value]":
        """What has to be there for it to be read: itself, or what it is fused from."""
        return frozenset({self}) if self.kept else self.roots


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation that is no call: what it reads and gives, and the traces inside it."""

    name: str
    reads: tuple[Value, ...]
    gives: tuple[Value, ...]
    inside: tuple[Jaxpr, ...]


def peak_bytes(trace: Jaxpr) -> int:
    """Most bytes of temporaries that are alive at once, operations taken in the order of the trace.

    Arguments and results are left out: they are kept anyway, the results in the place of donated arguments.

    Args:
        trace: the trace.
    """
    env: dict[Any, Value] = {variable: Value(0, kept=True) for variable in (*trace.invars, *trace.constvars)}
    operations = list(_flat(trace, env))
    results = [env[variable] for variable in trace.outvars if not isinstance(variable, Literal)]
    for value in results:
        value.bytes = 0
    for place, operation in enumerate(operations):
        for value in operation.gives:
            if not value.kept:
                value.roots = frozenset().union(*(read.sources() for read in operation.reads))
                value.kept = sum(0 < value.bytes / 2 <= root.bytes for root in value.roots) > MOST
        for value in operation.reads:
            for source in value.sources():
                source.last = place
    for value in results:
        for source in value.sources():
            source.last = len(operations)
    return _peak(operations)


def _peak(operations: list[Operation]) -> int:
    ends: dict[int, int] = {}
    peak = alive = 0
    for place, operation in enumerate(operations):
        made = [value for value in operation.gives if value.kept]
        alive += sum(value.bytes for value in made)
        peak = max(peak, alive + max(map(peak_bytes, operation.inside), default=0))
        for value in made:
            end = max(value.last, place)
            ends[end] = ends.get(end, 0) + value.bytes
        alive -= ends.pop(place, 0)
    return peak


def _flat(trace: Jaxpr, env: dict[Any, Value]) -> Iterator[Operation]:
    """The operations of a trace, calls replaced by what they call; fills in the value of each variable."""
    for equation in trace.eqns:
        reads = tuple(_read(atom, env) for atom in equation.invars)
        inside = tuple(traces_in(equation.params))
        name = equation.primitive.name
        if name in INLINED and inside:
            own = dict(zip(inside[0].invars, reads, strict=True))
            own |= {variable: Value(0, kept=True) for variable in inside[0].constvars}
            yield from _flat(inside[0], own)
            env |= {mine: _read(its, own) for mine, its in zip(equation.outvars, inside[0].outvars, strict=True)}
            continue
        kept = name in WHOLE | WRITTEN or name.startswith(("reduce", "arg", "scatter"))
        gives = tuple(Value(_bytes(variable), kept) for variable in equation.outvars)
        env |= zip(equation.outvars, gives, strict=True)
        if name in WHOLE:
            for value in reads:
                value.kept = True
        yield Operation(name, reads, gives, inside)


def _read(atom: Any, env: dict[Any, Value]) -> Value:
    return Value(0, kept=True) if isinstance(atom, Literal) else env[atom]


def _bytes(variable: Any) -> int:
    shape, dtype = getattr(variable.aval, "shape", ()), getattr(variable.aval, "dtype", None)
    numeric = dtype is not None and not jax.dtypes.issubdtype(dtype, jax.dtypes.extended)
    return math.prod(shape) * (np.dtype(dtype).itemsize if numeric else 4)
