"""What is known of observations before anything is drawn: data and supports that nothing drawn or trained moves."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from pplemd.dsl.dependencies import known
from pplemd.dsl.effects import Declarations, DeclaredPlate
from pplemd.dsl.graph import Graph, is_array
from pplemd.dsl.program import Program
from pplemd.dsl.support import Support, or_nan, support_of
from pplemd.errors import ProgramError

Met = list[list[Any]]  # of each observation the arrays of its law, and its data; shapes of what is not known yet


def supports(graph: Graph, program: Program, constants: Sequence[Any], declarations: Declarations) -> list[Support]:
    """The support of each observation, whichever rows are looked at, once its data were seen to lie there.

    Args:
        graph: the traced program.
        program: the program; what is trained may be shapes.
        constants: for each leaf of the program the array, where it is one that is not trained, else None.
        declarations: what it declared.

    Raises:
        ProgramError: data outside of a support that depends on no latent and on nothing trained.
    """
    some, every = _met(graph, program, constants, declarations)
    found = []
    for one, own, whole in zip(declarations.observed, some, every, strict=True):
        support, of_all = (support_of(one.parameters, [or_nan(array) for array in met[:-1]]) for met in (own, whole))
        fault = None if _is_unknown(whole[-1]) else of_all.fault(whole[-1])
        if fault is not None:
            raise ProgramError(f"{one.place}: observation {one.name!r} {fault}")
        found.append(dataclasses.replace(support, moving=of_all.moving))
    return found


def _met(graph: Graph, program: Program, constants: Sequence[Any], declarations: Declarations) -> tuple[Met, Met]:
    """What is known whichever rows of the plates are looked at, and what is known of all rows together."""
    leaves, structure = jax.tree.flatten(program)
    trained = [leaf if is_array(leaf) and one is None else None for leaf, one in zip(leaves, constants, strict=True)]
    static = [None if is_array(leaf) else leaf for leaf in leaves]
    latents = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in declarations.latents]

    def met(constants: list[Any], unknown: tuple[list[Any], list[Array]], rows: dict[str, Array]) -> Met:
        seen: Met = []

        def see(index: int, distribution: Any, data: Any) -> Any:
            seen.append([*graph.observed[index].arrays(distribution), data])
            return data

        filled = [
            next(one for one in leaf if one is not None) for leaf in zip(constants, unknown[0], static, strict=True)
        ]
        graph.walk(jax.tree.unflatten(structure, filled), None, lambda index, _: unknown[1][index], None, see, rows)
        return seen

    plates = {one.name: one for one in declarations.plates if one.rows < one.size}
    shapes = {name: jax.ShapeDtypeStruct((one.rows,), jnp.int32) for name, one in plates.items()}
    some = every = known(lambda given, unknown: met(given, *unknown), list(constants), ((trained, latents), shapes))
    if plates:

        def by_rows(given: tuple[list[Any], dict[str, Array]], unknown: tuple[list[Any], list[Array]]) -> Met:
            return jax.vmap(lambda rows: met(given[0], unknown, rows))(given[1])

        left = [_is_unknown(one) for one in some]
        many = known(by_rows, (list(constants), _all_rows(plates)), (trained, latents), left)
        every = [_joined(*each) if _is_unknown(each[0]) else each[0] for each in zip(some, many, strict=True)]
    counts = [sum(leaf is None for leaf in parameters.leaves) + 1 for parameters in graph.observed]
    return _split(some, counts), _split(every, counts)


def _is_unknown(array: Any) -> bool:
    return isinstance(array, jax.ShapeDtypeStruct)


def _all_rows(plates: dict[str, DeclaredPlate]) -> dict[str, Array]:
    """All rows of plates, as many at a time as are looked at together; the last again where they do not come out."""
    times = max(-(-one.size // one.rows) for one in plates.values())
    return {
        name: jnp.minimum(jnp.arange(times * one.rows), one.size - 1).reshape(times, one.rows)
        for name, one in plates.items()
    }


def _joined(one: Any, many: Any) -> Any:
    """What was looked at row by row, as one; of what is not known, or has no axis of rows, the shape for some rows."""
    return one if _is_unknown(many) or many.ndim < 2 else many.reshape(-1, *many.shape[2:])


def _split(flat: list[Any], counts: list[int]) -> Met:
    left = iter(flat)
    return [[next(left) for _ in range(count)] for count in counts]
