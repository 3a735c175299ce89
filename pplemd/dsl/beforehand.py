"""What is known of observations before anything is drawn: data and supports that nothing drawn or trained moves."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from pplemd.dsl.dependencies import known
from pplemd.dsl.effects import Declarations, DeclaredPlate
from pplemd.dsl.graph import Graph, is_array
from pplemd.dsl.inputs import HostColumn, Inputs
from pplemd.dsl.program import Program
from pplemd.dsl.support import Support, or_nan, support_of, support_of_rows
from pplemd.errors import ProgramError

CHECKED = 4096  # rows that are checked of data that stay on the host
Met = list[list[Any]]  # of each observation the arrays of its law, and its data; shapes of what is not known yet


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
