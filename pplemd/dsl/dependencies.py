"""What depends on what in a traced program, by reachability in its jaxpr.

Every value carries the set of origins that it depends on directly: program fields, the condition, and latents. A
latent's value is an origin of its own, so what its distribution depends on does not pass through it.
Calls (jit, remat, custom rules) are entered; for any other nested jaxpr (loops, branches) every result is taken to
depend on every operand.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jaxtyping import PyTree

from pplemd.dsl.graph import Graph, advance, latent_index, observed_index, read, stage_of, variables


class Origin(enum.Enum):
    """An origin that is not a latent (latents are their index)."""

    LEARNED = "learned"
    CONDITION = "condition"


@dataclasses.dataclass(frozen=True)
class Differentiated:
    """A leaf of the program as an origin of gradients alone: what `stop_gradient` gives does not depend on it.

    Attributes:
        leaf: its number among the program's arrays.
    """

    leaf: int


Origins = frozenset[Origin | Differentiated | int]
_NOTHING: Origins = frozenset()

# Calls whose one jaxpr maps operands to results one to one.
_CALLS = frozenset(
    ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2", "custom_jvp_call", "custom_vjp_call")
)


def origins(jaxpr: jex.Jaxpr, arguments: Sequence[Origins]) -> Mapping[PyTree, Origins]:
    """Return the origins of every variable of a jaxpr, from those of its arguments."""
    known: dict[Any, Origins] = dict.fromkeys(jaxpr.constvars, _NOTHING)
    known.update(zip(jaxpr.invars, arguments, strict=True))
    for equation in jaxpr.eqns:
        operands = [origin_of(atom, known) for atom in equation.invars]
        known.update(zip(equation.outvars, _results(equation, operands), strict=True))
    return known


def reached(graph: Graph, of_program: Sequence[Origins], of_condition: Origins = _NOTHING) -> Mapping[PyTree, Origins]:
    """Return the origins of every variable of a traced program, from those of its arrays and of its condition."""
    before = [*[_NOTHING] * graph.constants, *of_program, *[_NOTHING] * len(graph.columns)]
    count = len(graph.jaxpr.jaxpr.invars)
    return origins(graph.jaxpr.jaxpr, [*before, *[of_condition] * (count - len(before))])


def origin_of(atom: PyTree, known: Mapping[PyTree, Origins]) -> Origins:
    """Return the origins of a variable or of a literal, which has none."""
    return _NOTHING if isinstance(atom, jex.Literal) else known[atom]


def known(function: Callable, given: PyTree, unknown: PyTree, wanted: Sequence[bool] | None = None) -> list[PyTree]:
    """Return the leaves of function(given, unknown) that depend on what is given alone; of all others the shapes.

    Nothing else is computed.

    Args:
        function: of two trees of arrays.
        given: arrays.
        unknown: arrays, or their shapes.
        wanted: which of the leaves to compute; by default all.
    """
    closed = jax.make_jaxpr(function)(given, unknown)
    leaves, jaxpr = [jnp.asarray(leaf) for leaf in jax.tree.leaves(given)], closed.jaxpr
    rest = len(jaxpr.invars) - len(leaves)
    found = origins(jaxpr, [_NOTHING] * len(leaves) + [frozenset({Origin.LEARNED})] * rest)
    which = wanted or [True] * len(jaxpr.outvars)
    of = [one and not origin_of(atom, found) for atom, one in zip(jaxpr.outvars, which, strict=True)]
    chosen = [atom for atom, one in zip(jaxpr.outvars, of, strict=True) if one]
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *leaves), strict=False))
    pure = [equation for equation in jaxpr.eqns if not equation.effects]
    with jax.ensure_compile_time_eval():
        advance(stage_of(closed, pure, variables(chosen)), values)
    return [read(atom, values) if one else _shape(atom) for atom, one in zip(jaxpr.outvars, of, strict=True)]


def _shape(atom: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(atom.aval.shape, atom.aval.dtype)


def _results(equation: Any, operands: list[Origins]) -> list[Origins]:
    index = latent_index(equation)
    if index is not None:
        return [frozenset({index})]
    if observed_index(equation) is not None:
        return [operands[-1]]  # the data, whatever its law depends on
    if equation.primitive.name == "stop_gradient":
        return [frozenset(one for one in operand if not isinstance(one, Differentiated)) for operand in operands]
    body = _body(equation)
    if body is None:
        return [_NOTHING.union(*operands)] * len(equation.outvars)
    inner = origins(body, operands)
    return [origin_of(atom, inner) for atom in body.outvars]


def _body(equation: Any) -> jex.Jaxpr | None:
    if equation.primitive.name not in _CALLS:
        return None
    nested = [value for value in equation.params.values() if isinstance(value, jex.Jaxpr | jex.ClosedJaxpr)]
    if len(nested) != 1:
        return None
    body = nested[0].jaxpr if isinstance(nested[0], jex.ClosedJaxpr) else nested[0]
    fits = len(body.invars) == len(equation.invars) and len(body.outvars) == len(equation.outvars)
    return body if fits else None
