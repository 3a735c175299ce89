"""From a program to a problem: one abstract evaluation of ``__call__``."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pplemd.dsl import checks
from pplemd.dsl.dependencies import Origin, Origins, origin_of, origins
from pplemd.dsl.effects import Declarations, DeclaredLatent
from pplemd.dsl.explain import explained
from pplemd.dsl.graph import Graph, cut, is_array
from pplemd.dsl.problem import Output, Problem, Site
from pplemd.dsl.program import Program


def trace(program: Program, *, shape: tuple[int, ...], classes: int | None = None, dtype: Any = jnp.float32) -> Problem:
    """Trace a program once, abstractly, into a problem.

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
    checks.check_teacher(shape, classes)
    checks.check_signature(program, classes)
    graph, declarations = _graph(program, None if classes is None else jax.ShapeDtypeStruct((), jnp.int32))
    output = declarations.outputs[0]
    (aval,) = graph.jaxpr.out_avals
    checks.check_output(output, aval, shape, dtype)

    trained = [checks.is_trained(leaf) for leaf in jax.tree.leaves(program) if is_array(leaf)]
    seeds = [frozenset({Origin.LEARNED}) if one else frozenset() for one in trained]
    known = origins(graph.jaxpr.jaxpr, seeds + ([] if classes is None else [frozenset({Origin.LABEL})]))
    reached = origin_of(graph.jaxpr.jaxpr.outvars[0], known)
    checks.check_depends(output, reached)
    return Problem(
        name=type(program).__name__,
        sites=_sites(graph, declarations.latents, known),
        output=Output(
            name=output.name,
            shape=tuple(aval.shape),
            dtype=np.dtype(aval.dtype),
            parents=_names(reached, declarations.latents),
            labelled=Origin.LABEL in reached,
        ),
        classes=classes,
        graph=graph,
    )


def _graph(program: Program, label: jax.ShapeDtypeStruct | None) -> tuple[Graph, Declarations]:
    leaves, treedef = jax.tree.flatten(program)
    static = tuple(None if is_array(leaf) else leaf for leaf in leaves)
    seen: list[Declarations] = []

    def evaluate(arrays: list[Any], label: Any) -> jax.Array:
        left = iter(arrays)
        rebuilt = jax.tree.unflatten(treedef, [next(left) if is_array(leaf) else leaf for leaf in leaves])
        declarations = Declarations()
        seen.append(declarations)
        with declarations:
            result = rebuilt() if label is None else rebuilt(label)
        return checks.check_declared(program, declarations, result)

    with explained():
        closed = jax.make_jaxpr(evaluate)([_abstract(leaf) for leaf in leaves if is_array(leaf)], label)
    checks.check_closed(program, closed.consts)
    stages, latents = cut(closed)
    parameters = tuple(one.parameters for one in seen[-1].latents)
    return Graph(closed, parameters, stages, latents, treedef, static), seen[-1]


def _abstract(array: Any) -> jax.ShapeDtypeStruct:
    typed = isinstance(array, jax.Array | jax.ShapeDtypeStruct)
    return jax.ShapeDtypeStruct(array.shape, array.dtype if typed else jnp.asarray(array).dtype)


def _sites(graph: Graph, latents: list[DeclaredLatent], known: Any) -> tuple[Site, ...]:
    sites = []
    for latent, equation in zip(latents, graph.latents, strict=True):
        operands = [origin_of(atom, known) for atom in equation.invars]
        reached = frozenset[Origin | int]().union(*operands)
        moved = frozenset[Origin | int]().union(*(operands[i] for i in latent.location_scale or ()))
        site = Site(
            name=latent.name,
            shape=latent.shape,
            dtype=latent.dtype,
            base_shape=latent.base_shape,
            family=latent.family,
            parents=_names(reached, latents),
            learned=Origin.LEARNED in reached,
            labelled=Origin.LABEL in reached,
            eligible=bool(moved - {Origin.LABEL}),
            base=latent.base,
        )
        sites.append(site)
    return tuple(sites)


def _names(reached: Origins, latents: list[DeclaredLatent]) -> tuple[str, ...]:
    return tuple(latent.name for index, latent in enumerate(latents) if index in reached)
