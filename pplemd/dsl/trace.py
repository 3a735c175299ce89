"""From a program to a problem: one abstract evaluation of ``__call__``."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pplemd.dsl import checks
from pplemd.dsl.beforehand import supports
from pplemd.dsl.dependencies import Origin, Origins, origin_of, origins
from pplemd.dsl.effects import Declarations, DeclaredLatent
from pplemd.dsl.explain import explained
from pplemd.dsl.graph import Graph, cut, is_array, latent_index, observed_index
from pplemd.dsl.problem import Problem
from pplemd.dsl.program import Program
from pplemd.dsl.sites import Observed, Output, Plate, Site
from pplemd.dsl.support import Support


def trace(program: Program, *, shape: tuple[int, ...], classes: int | None = None, dtype: Any = jnp.float32) -> Problem:
    """Trace a program that generates once, abstractly, into a problem.

    No array is computed: the program may hold ``jax.ShapeDtypeStruct`` leaves (``eqx.filter_eval_shape``).

    Args:
        program: instance of a `Program`.
        shape: of one sample of the teacher.
        classes: number of classes of the teacher; None without labels.
        dtype: of one sample of the teacher.

    Raises:
        ProgramError: the program is not one, or does not fit the teacher.
    """
    checks.check_program(program)
    checks.check_trained(program)
    checks.check_teacher(shape, classes)
    checks.check_signature(program, classes)
    graph, declarations = _graph(program, None if classes is None else jax.ShapeDtypeStruct((), jnp.int32))
    checks.check_unobserved(declarations)
    checks.check_generates(program, declarations)
    (aval,) = graph.jaxpr.out_avals
    checks.check_output(declarations.outputs[0], aval, shape, dtype)
    trained = [checks.is_trained(leaf) for leaf in jax.tree.leaves(program)]
    return _problem(program, graph, declarations, classes, trained)


def trace_observed(program: Program, *, rows: int | None = None, constants: Sequence[Any] | None = None) -> Problem:
    """Trace a program that observes data once, abstractly, into a problem.

    Args:
        program: instance of a `Program`; it may have nothing to train.
        rows: how many rows of each plate are looked at together; None for all. Which, is told by `Problem.at`.
        constants: for each leaf of a program of shapes the array, where it is one that is not trained, else None; data
            may be among them.

    Raises:
        ProgramError: the program is not one, observes nothing, or has latents that a minibatch would split.
    """
    checks.check_program(program)
    checks.check_signature(program, None)
    graph, declarations = _graph(program, None, rows)
    checks.check_observed(program, declarations)
    checks.check_local(declarations)
    if constants is None:
        constants = checks.constants(program)
    checks.check_constant(program, constants, graph, declarations)
    trained = [
        checks.is_trained(leaf) and one is None for leaf, one in zip(jax.tree.leaves(program), constants, strict=True)
    ]
    return _problem(program, graph, declarations, None, trained, supports(graph, program, constants, declarations))


def _problem(
    program: Program,
    graph: Graph,
    declarations: Declarations,
    classes: int | None,
    trained: Sequence[bool],
    of_data: Sequence[Support] = (),
) -> Problem:
    arrays = [one for leaf, one in zip(jax.tree.leaves(program), trained, strict=True) if is_array(leaf)]
    seeds = [frozenset({Origin.LEARNED}) if one else frozenset() for one in arrays]
    reached = origins(graph.jaxpr.jaxpr, seeds + ([] if classes is None else [frozenset({Origin.LABEL})]))
    return Problem(
        name=type(program).__name__,
        sites=_sites(graph, declarations.latents, reached),
        generated=_generated(graph, declarations, reached),
        observed=_observed(graph, declarations, reached, of_data),
        plates=tuple(Plate(one.name, one.size, one.rows) for one in declarations.plates),
        classes=classes,
        graph=graph,
        trained=tuple(trained),
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
        labelled=Origin.LABEL in reached,
        centered=output.centered,
    )


def _observed(graph: Graph, declarations: Declarations, of: Any, own: Sequence[Support]) -> tuple[Observed, ...]:
    found, equations = [], (one for one in graph.cuts if observed_index(one) is not None)
    for one, equation, support in zip(declarations.observed, equations, own, strict=True):
        reached = frozenset[Origin | int]().union(*(origin_of(atom, of) for atom in equation.invars[:-1]))
        parents, learned = _names(reached, declarations.latents), Origin.LEARNED in reached
        found.append(Observed(one.name, one.shape, one.family, parents, learned, one.plates, one.place, support))
    return tuple(found)


def _graph(program: Program, label: jax.ShapeDtypeStruct | None, rows: int | None = None) -> tuple[Graph, Declarations]:
    leaves, treedef = jax.tree.flatten(program)
    static = tuple(None if is_array(leaf) else leaf for leaf in leaves)
    seen: list[Declarations] = []

    def evaluate(arrays: list[Any], label: Any) -> jax.Array | None:
        left = iter(arrays)
        rebuilt = jax.tree.unflatten(treedef, [next(left) if is_array(leaf) else leaf for leaf in leaves])
        declarations = Declarations(rows)
        seen.append(declarations)
        with declarations:
            result = rebuilt() if label is None else rebuilt(label)
        return checks.check_declared(program, declarations, result)

    with explained():
        closed = jax.make_jaxpr(evaluate)([_abstract(leaf) for leaf in leaves if is_array(leaf)], label)
    checks.check_closed(program, closed.consts)
    stages, cuts = cut(closed)
    parameters, observed = (tuple(one.parameters for one in many) for many in (seen[-1].latents, seen[-1].observed))
    return Graph(closed, parameters, observed, stages, cuts, treedef, static), seen[-1]


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
        eligible = bool(moved - {Origin.LABEL})
        checks.check_movable(latent, eligible)
        site = Site(
            name=latent.name,
            shape=latent.shape,
            dtype=latent.dtype,
            base_shape=latent.base_shape,
            family=latent.family,
            parents=_names(reached, latents),
            learned=Origin.LEARNED in reached,
            labelled=Origin.LABEL in reached,
            eligible=eligible,
            base=latent.base,
            plates=latent.plates,
            centered=latent.centered,
        )
        sites.append(site)
    return tuple(sites)


def _names(reached: Origins, latents: list[DeclaredLatent]) -> tuple[str, ...]:
    return tuple(latent.name for index, latent in enumerate(latents) if index in reached)
