"""A traced program as data: stages of a closed jaxpr, cut where the latents are declared.

The one trace of a program records, for every latent, an equation whose operands are the array parameters of its
distribution and whose result is its value. Cutting there leaves stages that are ordinary jaxprs; walking over them
with a rule that fills in the latents (draw, push from base noise, given values) yields every function of a problem.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from numpyro.distributions import Distribution

from pplemd.errors import ProgramError

Fill = Callable[[int, Distribution], Array]

_latent_p = jex.Primitive("pplemd_latent")
_latent_p.def_abstract_eval(lambda *_, index, shape, dtype: jax.core.ShapedArray(shape, dtype))


@dataclasses.dataclass(frozen=True, eq=False)
class Parameters:
    """A distribution with its arrays taken out: what is static of it.

    Attributes:
        treedef: structure of the distribution as a pytree.
        leaves: its leaves; None where an array was.
    """

    treedef: Any
    leaves: tuple[Any, ...]

    def distribution(self, arrays: Sequence[Any]) -> Distribution:
        """Return the distribution with the given arrays put back."""
        left = iter(arrays)
        return jax.tree.unflatten(self.treedef, [next(left) if leaf is None else leaf for leaf in self.leaves])


def split_parameters(distribution: Distribution) -> tuple[Parameters, list[Any]]:
    """Split a distribution into what is static of it and its arrays, in order."""
    leaves, treedef = jax.tree.flatten(distribution)
    static = tuple(None if is_array(leaf) else leaf for leaf in leaves)
    return Parameters(treedef, static), [leaf for leaf in leaves if is_array(leaf)]


def is_array(leaf: Any) -> bool:
    """Whether a leaf of a program or a distribution is an array, concrete, traced or only a shape."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def bind_latent(index: int, arrays: Sequence[Any], shape: tuple[int, ...], dtype: Any) -> Array:
    """Stage the declaration of latent number ``index`` with the arrays of its distribution as operands."""
    operands = [jnp.asarray(array) for array in arrays]
    return _latent_p.bind(*operands, index=index, shape=shape, dtype=jnp.dtype(dtype))


def latent_index(equation: jex.JaxprEqn) -> int | None:
    """Return which latent an equation declares; None for any other equation."""
    return equation.params["index"] if equation.primitive is _latent_p else None


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """The equations between two latents.

    Attributes:
        jaxpr: the equations, closed.
        inputs: variables that it reads.
        outputs: variables that later stages read.
    """

    jaxpr: jex.ClosedJaxpr
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A traced program. Compared by identity, so that it can be a static field.

    Attributes:
        jaxpr: the whole program: (arrays of the program, label) -> generated value.
        parameters: for each latent, in order of declaration, what is static of its distribution.
        stages: one more than there are latents.
        latents: for each latent the equation that declares it.
        treedef: structure of the program.
        static: its leaves that are not arrays; None where an array was.
    """

    jaxpr: jex.ClosedJaxpr
    parameters: tuple[Parameters, ...]
    stages: tuple[Stage, ...]
    latents: tuple[Any, ...]
    treedef: Any
    static: tuple[Any, ...]

    def walk(self, program: PyTree, label: Any, fill: Fill, latents: int | None = None) -> Array | None:
        """Evaluate the program with ``fill(index, distribution)`` as the value of each latent.

        Args:
            program: of the structure that was traced.
            label: int32 scalar, or None where the program was traced without one.
            fill: called once for each latent, in order.
            latents: stop after so many latents; None evaluates everything.

        Returns:
            The generated value, or None where the walk stopped at the latents.
        """
        arguments = self._arrays(program) + ([] if label is None else [jnp.asarray(label, jnp.int32)])
        values: dict[Any, Any] = dict(zip(self.jaxpr.jaxpr.constvars, self.jaxpr.consts, strict=True))
        values.update(zip(self.jaxpr.jaxpr.invars, arguments, strict=True))
        for index, equation in enumerate(self.latents[:latents]):
            _advance(self.stages[index], values)
            arrays = [_read(atom, values) for atom in equation.invars]
            values[equation.outvars[0]] = fill(index, self.parameters[index].distribution(arrays))
        if latents is not None:
            return None
        _advance(self.stages[-1], values)
        return _read(self.jaxpr.jaxpr.outvars[0], values)

    def _arrays(self, program: PyTree) -> list[Any]:
        leaves, treedef = jax.tree.flatten(program)
        static = tuple(None if is_array(leaf) else leaf for leaf in leaves)
        arrays = [leaf for leaf in leaves if is_array(leaf)]
        expected = self.jaxpr.in_avals[: len(arrays)]
        same = treedef == self.treedef and bool(eqx.tree_equal(static, self.static))
        if not same or any(a.shape != e.shape or a.dtype != e.dtype for a, e in zip(arrays, expected, strict=False)):
            raise ProgramError(
                "The program is not of the structure that the problem was traced from; expected the same classes, "
                "settings and array shapes (an EMA or an update of the traced program). Trace the new program."
            )
        return arrays


def _advance(stage: Stage, values: dict[Any, Any]) -> None:
    if stage.outputs:
        results = jex.jaxpr_as_fun(stage.jaxpr)(*(values[variable] for variable in stage.inputs))
        values.update(zip(stage.outputs, results, strict=True))


def _read(atom: Any, values: dict[Any, Any]) -> Any:
    return atom.val if isinstance(atom, jex.Literal) else values[atom]


def cut(closed: jex.ClosedJaxpr) -> tuple[tuple[Stage, ...], tuple[Any, ...]]:
    """Cut a traced program where its latents are declared: the stages and the equations between them."""
    pieces: list[list[Any]] = [[]]
    latents: list[Any] = []
    for equation in closed.jaxpr.eqns:
        if latent_index(equation) is None:
            pieces[-1].append(equation)
        else:
            latents.append(equation)
            pieces.append([])
    stages: list[Stage] = []
    needed = _variables(closed.jaxpr.outvars)
    for index in reversed(range(len(pieces))):
        stage = _stage(closed, pieces[index], needed)
        stages.append(stage)
        needed |= set(stage.inputs)
        if index:
            needed |= _variables(latents[index - 1].invars)
    return tuple(reversed(stages)), tuple(latents)


def _stage(closed: jex.ClosedJaxpr, equations: list[Any], needed: set[Any]) -> Stage:
    kept: list[Any] = []
    reads = set(needed)
    for equation in reversed(equations):
        if equation.effects or not reads.isdisjoint(equation.outvars):
            kept.append(equation)
            reads |= _variables(equation.invars)
    kept.reverse()
    made = [variable for equation in kept for variable in equation.outvars]
    outputs = tuple(variable for variable in made if variable in needed)
    read = [variable for equation in kept for variable in equation.invars if not isinstance(variable, jex.Literal)]
    inputs = tuple(dict.fromkeys(variable for variable in read if variable not in set(made)))
    effects = frozenset().union(*(equation.effects for equation in kept))
    jaxpr = jex.Jaxpr((), inputs, outputs, kept, effects, closed.jaxpr.debug_info)
    return Stage(jex.ClosedJaxpr(jaxpr, ()), inputs, outputs)


def _variables(atoms: Sequence[Any]) -> set[Any]:
    return {atom for atom in atoms if not isinstance(atom, jex.Literal)}
