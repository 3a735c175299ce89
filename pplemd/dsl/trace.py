"""From a program to a problem: one abstract evaluation of ``__call__``, and what is known of its data beforehand."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, PyTree

from pplemd.conditions import AbstractCondition, Condition
from pplemd.dsl import checks
from pplemd.dsl.effects import Declarations, DeclaredLatent, DeclaredPlate
from pplemd.dsl.graph import (
    ROWS,
    Graph,
    HostColumn,
    Inputs,
    Origin,
    Origins,
    cut,
    hoisted,
    inlined,
    is_array,
    known,
    latent_index,
    observed_index,
    origin_of,
    reached,
)
from pplemd.dsl.locations import defined, explained
from pplemd.dsl.problem import Observed, Output, Plate, Problem, Site
from pplemd.dsl.program import Program
from pplemd.dsl.support import Support, or_nan, support_of, support_of_rows
from pplemd.errors import DataError, ProgramError

CHECKED = 4096  # rows that are checked of data that stay on the host
Met = list[
    list[Any]
]  # of each observation the arrays of its distribution, and its data; shapes of what is not known yet


def supports(
    graph: Graph, inputs: Inputs, program: Program, constants: Sequence[PyTree], declarations: Declarations
) -> list[Support]:
    """The support of each observation, whichever rows are looked at, once its data were seen to lie there.

    Args:
        graph: the traced program.
        inputs: its data and large constants.
        program: the program; what is trained may be shapes.
        constants: for each leaf of the program the array, where it is one that is not trained, else None.
        declarations: what it declared.

    Raises:
        ProgramError: data outside of a support that depends on no latent and on nothing trained.
    """
    some, every = _met(graph, inputs, program, constants, declarations)
    found = []
    for one, own, whole in zip(declarations.observed, some, every, strict=True):
        support = support_of(one.parameters, [or_nan(array) for array in own[:-1]])
        arrays, data = [or_nan(array) for array in whole[:-1]], whole[-1]
        by_row = [_is_unknown(mine) and not _is_unknown(all_) for mine, all_ in zip(own, whole, strict=True)]
        if declarations.single and any(by_row[:-1]):
            of_all = support_of_rows(one.parameters, arrays, by_row[:-1], len(one.shape))
            data = data if by_row[-1] or _is_unknown(data) else data[None]
        else:
            of_all = support_of(one.parameters, arrays)
        fault = None if _is_unknown(data) else of_all.fault(data)
        if fault is not None:
            raise ProgramError(f"{one.place}: observation {one.name!r} {fault}")
        found.append(dataclasses.replace(support, moving=of_all.moving))
    return found


def _met(
    graph: Graph, inputs: Inputs, program: Program, constants: Sequence[Any], declarations: Declarations
) -> tuple[Met, Met]:
    """What is known whichever rows are looked at, and what is known of all rows together; of single rows, stacked."""
    leaves, structure = jax.tree.flatten(program)
    trained = [leaf if is_array(leaf) and one is None else None for leaf, one in zip(leaves, constants, strict=True)]
    static = [None if is_array(leaf) else leaf for leaf in leaves]
    latents = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in declarations.latents]

    def met(constants: list[Any], unknown: tuple[list[Any], list[Array]], inputs: Inputs) -> Met:
        seen: Met = []

        def see(index: int, distribution: Any, data: Any) -> Any:
            seen.append([*graph.observed[index].arrays(distribution), data])
            return data

        filled = [
            next(one for one in leaf if one is not None) for leaf in zip(constants, unknown[0], static, strict=True)
        ]
        filled_in = jax.tree.unflatten(structure, filled)
        graph.walk(filled_in, None, inputs, lambda index, _: unknown[1][index], None, see)
        return seen

    plates = {one.name: one for one in declarations.plates if one.rows < one.size}
    looked_at = _all_rows(plates) if plates else _stacked(inputs) if declarations.single else None
    if looked_at is None:
        some = every = known(
            lambda given, unknown: met(given[0], unknown, given[1]), (list(constants), inputs), (trained, latents)
        )
    else:
        always = inputs if plates else Inputs(inputs.constants)
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), looked_at)
        some = known(
            lambda given, unknown: met(given[0], unknown[0], _of(given[1], unknown[1])),
            (list(constants), always),
            ((trained, latents), one),
        )

        def by_rows(given: tuple[list[Any], Inputs, Inputs], unknown: tuple[list[Any], list[Array]]) -> Met:
            return jax.vmap(lambda rows: met(given[0], unknown, _of(given[1], rows)))(given[2])

        left = [_is_unknown(one) for one in some]
        many = known(by_rows, (list(constants), always, looked_at), (trained, latents), left)
        if plates:
            many = [_joined(*each) for each in zip(some, many, strict=True)]
        every = [all_ if _is_unknown(one) else one for one, all_ in zip(some, many, strict=True)]
    counts = [sum(leaf is None for leaf in parameters.leaves) + 1 for parameters in graph.observed]
    return _split(some, counts), _split(every, counts)


def _is_unknown(array: Any) -> bool:
    return isinstance(array, jax.ShapeDtypeStruct)


def _of(always: Inputs, looked_at: Inputs) -> Inputs:
    return Inputs(always.constants, always.columns, looked_at.rows, looked_at.row)


def _stacked(inputs: Inputs) -> Inputs:
    """All rows of the columns, as a batch; the first ones where some stay on the host."""
    on_host = any(isinstance(one, HostColumn) for one in inputs.columns.values())

    def stacked(column: Array | HostColumn) -> Array:
        first = np.arange(min(CHECKED, column.shape[0]) if on_host else column.shape[0])
        return jnp.asarray(column.source(first)) if isinstance(column, HostColumn) else column[: len(first)]

    return Inputs(row={name: stacked(one) for name, one in inputs.columns.items()})


def _all_rows(plates: dict[str, DeclaredPlate]) -> Inputs:
    """All rows of plates, as many at a time as are looked at together; the last again where they do not come out."""
    times = max(-(-one.size // one.rows) for one in plates.values())
    return Inputs(
        rows={
            name: jnp.minimum(jnp.arange(times * one.rows), one.size - 1).reshape(times, one.rows)
            for name, one in plates.items()
        }
    )


def _joined(one: Any, many: Any) -> Any:
    """What was looked at row by row, as one; of what is not known, or has no axis of rows, the shape for some rows."""
    return one if _is_unknown(many) or many.ndim < 2 else many.reshape(-1, *many.shape[2:])


def _split(flat: list[Any], counts: list[int]) -> Met:
    left = iter(flat)
    return [[next(left) for _ in range(count)] for count in counts]


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
        dtype = getattr(found, "dtype", None)
        described = f"a {type(found).__name__}" if dtype is None else f"an array of {dtype}"
        raise DataError(
            f"column {name!r} is {described}; expected an array of numbers. Convert it with np.asarray, and "
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


def _listed(names: Any) -> str:
    return ", ".join(repr(one) for one in names)


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
