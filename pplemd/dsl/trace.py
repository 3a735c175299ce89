"""From a program to a problem: one abstract evaluation of ``__call__``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import PyTree

from pplemd.conditions import AbstractCondition, Condition
from pplemd.dsl import checks
from pplemd.dsl.beforehand import supports
from pplemd.dsl.columns import Column, columns_of
from pplemd.dsl.dependencies import Origin, Origins, origin_of, reached
from pplemd.dsl.effects import Declarations, DeclaredLatent
from pplemd.dsl.explain import explained
from pplemd.dsl.graph import Graph, cut, hoisted, inlined, is_array, latent_index, observed_index
from pplemd.dsl.inputs import ROWS, Inputs
from pplemd.dsl.problem import Problem
from pplemd.dsl.program import Program
from pplemd.dsl.sites import Observed, Output, Plate, Site
from pplemd.dsl.support import Support


def trace(
    program: Program,
    *,
    shape: tuple[int, ...],
    condition: AbstractCondition | None = None,
    dtype: DTypeLike = jnp.float32,
) -> Problem:
    """Trace a program that generates once, abstractly, into a problem.

    No array is computed: the program may hold ``jax.ShapeDtypeStruct`` leaves (``eqx.filter_eval_shape``).

    Args:
        program: instance of a `Program`.
        shape: of one sample of the teacher.
        condition: the form of what conditions the teacher; None where nothing does.
        dtype: of one sample of the teacher.

    Raises:
        ProgramError: the program is not one, or does not fit the teacher.
    """
    checks.check_program(program)
    checks.check_trained(program)
    checks.check_shape(shape)
    checks.check_signature(program, condition)
    traced = None if condition is None else condition.shapes
    graph, constants, declarations = _graph(program, traced, {}, Declarations)
    checks.check_unobserved(declarations)
    checks.check_generates(program, declarations)
    (aval,) = graph.jaxpr.out_avals
    checks.check_output(declarations.outputs[0], aval, shape, dtype)
    trained = [checks.is_trained(leaf) for leaf in jax.tree.leaves(program)]
    return _problem(program, graph, Inputs(constants), declarations, condition, trained)


def trace_observed(
    program: Program,
    *,
    data: Mapping[str, Column] | None = None,
    rows: int | None = None,
    constants: Sequence[PyTree] | None = None,
) -> Problem:
    """Trace a program that observes data once, abstractly, into a problem.

    Data are what the parameters of its `__call__` name, and what it closes over. A program that takes data is given
    whole columns, or, where `rows` says so, declared for one row of all of them. Neither data nor other large arrays
    are constants of what is traced: the problem holds them.

    Args:
        program: instance of a `Program`; it may have nothing to train.
        data: a column for each parameter of its `__call__`.
        rows: how many rows are looked at together, of each plate that the program declares; None for all. Of a program
            that takes data, one. Which, is passed to `Problem.at`.
        constants: for each leaf of a program of shapes the array, where it is one that is not trained, else None; data
            may be among them.

    Raises:
        ProgramError: the program is not one, observes nothing, has latents that a minibatch would split, or takes
            other data than there are.
        DataError: columns that cannot be data, or of different lengths where they are rows.
    """
    checks.check_program(program)
    columns = columns_of(program, data or {}, by_row=rows is not None)
    single = rows is not None and bool(columns)
    shapes = {name: jax.ShapeDtypeStruct(one.shape[single:], one.dtype) for name, one in columns.items()}
    graph, closed_over, declarations = _graph(program, None, shapes, lambda: Declarations(rows, single))
    checks.check_observed(program, declarations)
    checks.check_local(declarations)
    if constants is None:
        constants = checks.constants(program)
    checks.check_constant(program, constants, graph, declarations)
    trained = [
        checks.is_trained(leaf) and one is None for leaf, one in zip(jax.tree.leaves(program), constants, strict=True)
    ]
    inputs = Inputs(closed_over, columns)
    own = supports(graph, inputs, program, constants, declarations)
    return _problem(program, graph, inputs, declarations, None, trained, own)


def _problem(
    program: Program,
    graph: Graph,
    inputs: Inputs,
    declarations: Declarations,
    form: AbstractCondition | None,
    trained: Sequence[bool],
    of_data: Sequence[Support] = (),
) -> Problem:
    arrays = [one for leaf, one in zip(jax.tree.leaves(program), trained, strict=True) if is_array(leaf)]
    seeds = [frozenset({Origin.LEARNED}) if one else frozenset() for one in arrays]
    known = reached(graph, seeds, frozenset({Origin.CONDITION}))
    plates = tuple(Plate(one.name, one.size, one.rows) for one in declarations.plates)
    if declarations.single:
        plates = (Plate(ROWS, len(next(iter(inputs.columns.values()))), 1),)
    return Problem(
        name=type(program).__name__,
        sites=_sites(graph, declarations.latents, known),
        generated=_generated(graph, declarations, known),
        observed=_observed(graph, declarations, known, of_data),
        plates=plates,
        condition=form,
        graph=graph,
        trained=tuple(trained),
        inputs=inputs,
        single=declarations.single,
    )


def _generated(graph: Graph, declarations: Declarations, known: Any) -> Output | None:
    if not declarations.outputs:
        return None
    output, (aval,) = declarations.outputs[0], graph.jaxpr.out_avals
    reached = origin_of(graph.jaxpr.jaxpr.outvars[0], known)
    checks.check_depends(output, reached)
    return Output(
        name=output.name,
        shape=tuple(aval.shape),
        dtype=np.dtype(aval.dtype),
        parents=_names(reached, declarations.latents),
        conditioned=Origin.CONDITION in reached,
        centered=output.centered,
    )


def _observed(graph: Graph, declarations: Declarations, of: Any, own: Sequence[Support]) -> tuple[Observed, ...]:
    found, equations = [], (one for one in graph.cuts if observed_index(one) is not None)
    for one, equation, support in zip(declarations.observed, equations, own, strict=True):
        reached = frozenset[Origin | int]().union(*(origin_of(atom, of) for atom in equation.invars[:-1]))
        parents, learned = _names(reached, declarations.latents), Origin.LEARNED in reached
        found.append(Observed(one.name, one.shape, one.family, parents, learned, one.plates, one.place, support))
    return tuple(found)


def _graph(
    program: Program,
    condition: PyTree[jax.ShapeDtypeStruct],
    columns: Mapping[str, jax.ShapeDtypeStruct],
    fresh: Callable[[], Declarations],
) -> tuple[Graph, tuple[jax.Array, ...], Declarations]:
    """The traced program, the large arrays that it closed over, and what it declared."""
    leaves, treedef = jax.tree.flatten(program)
    static = tuple(None if is_array(leaf) else leaf for leaf in leaves)
    seen: list[Declarations] = []

    def evaluate(arrays: list[Any], columns: dict[str, Any], condition: Condition) -> jax.Array | None:
        left = iter(arrays)
        rebuilt = jax.tree.unflatten(treedef, [next(left) if is_array(leaf) else leaf for leaf in leaves])
        declarations = fresh()
        seen.append(declarations)
        with declarations:
            result = rebuilt(**columns) if condition is None else rebuilt(condition)
        return checks.check_declared(program, declarations, result)

    with explained():
        closed = jax.make_jaxpr(evaluate)(
            [_abstract(leaf) for leaf in leaves if is_array(leaf)], dict(columns), condition
        )
    checks.check_closed(program, closed.consts)
    closed, constants = hoisted(inlined(closed))
    stages, cuts = cut(closed)
    parameters, observed = (tuple(one.parameters for one in many) for many in (seen[-1].latents, seen[-1].observed))
    names = tuple(sorted(columns))
    graph = Graph(closed, parameters, observed, stages, cuts, treedef, static, len(constants), names)
    return graph, tuple(jnp.asarray(one) for one in constants), seen[-1]


def _abstract(array: Any) -> jax.ShapeDtypeStruct:
    typed = isinstance(array, jax.Array | jax.ShapeDtypeStruct)
    return jax.ShapeDtypeStruct(array.shape, array.dtype if typed else jnp.asarray(array).dtype)


def _sites(graph: Graph, latents: list[DeclaredLatent], known: Any) -> tuple[Site, ...]:
    sites = []
    equations = (one for one in graph.cuts if latent_index(one) is not None)
    for latent, equation in zip(latents, equations, strict=True):
        operands = [origin_of(atom, known) for atom in equation.invars]
        reached = frozenset[Origin | int]().union(*operands)
        moved = frozenset[Origin | int]().union(*(operands[i] for i in latent.location_scale or ()))
        eligible = bool(moved - {Origin.CONDITION})
        checks.check_movable(latent, eligible)
        site = Site(
            name=latent.name,
            shape=latent.shape,
            dtype=latent.dtype,
            base_shape=latent.base_shape,
            family=latent.family,
            parents=_names(reached, latents),
            learned=Origin.LEARNED in reached,
            conditioned=Origin.CONDITION in reached,
            eligible=eligible,
            base=latent.base,
            plates=latent.plates,
            centered=latent.centered,
        )
        sites.append(site)
    return tuple(sites)


def _names(reached: Origins, latents: list[DeclaredLatent]) -> tuple[str, ...]:
    return tuple(latent.name for index, latent in enumerate(latents) if index in reached)
