"""A traced program as data: stages of a closed jaxpr, cut where its sites are declared.

The one trace of a program records, for every latent and every observation, an equation whose operands are the array
parameters of its distribution (and the data) and whose result is its value; for every plate, one whose result is the
rows that are looked at. Cutting there leaves stages that are ordinary jaxprs; walking over them with a rule that fills
in the latents (draw, push from base noise, given values) yields every function of a problem.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from numpyro.distributions import Distribution

from pplemd.devices import at_hand
from pplemd.errors import ProgramError

Fill = Callable[[int, Distribution], Array]
See = Callable[[int, Distribution, Any], Any]  # data may be a literal, which JAX does not call an Array

_latent_p = jex.Primitive("pplemd_latent")
_latent_p.def_abstract_eval(lambda *_, index, shape, dtype: jax.core.ShapedArray(shape, dtype))
_observed_p = jex.Primitive("pplemd_observed")  # the last operand is the data, and the result
_observed_p.def_abstract_eval(lambda *operands, index: jax.core.ShapedArray(operands[-1].shape, operands[-1].dtype))
_plate_p = jex.Primitive("pplemd_plate")
_plate_p.def_abstract_eval(lambda *, name, size: jax.core.ShapedArray((size,), jnp.int32))


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

    def arrays(self, distribution: Distribution) -> list[Any]:
        """Return the arrays of a distribution of this structure, in order."""
        leaves = jax.tree.leaves(distribution)
        return [leaf for leaf, static in zip(leaves, self.leaves, strict=True) if static is None]


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


def bind_observed(index: int, arrays: Sequence[Any], data: Array) -> Array:
    """Stage observation number ``index`` with the arrays of its distribution and its data as operands."""
    return _observed_p.bind(*(jnp.asarray(array) for array in arrays), data, index=index)


def bind_plate(name: str, size: int) -> Array:
    """Stage a plate of which ``size`` rows are looked at; which, is told when the program is walked."""
    return _plate_p.bind(name=name, size=size)


def latent_index(equation: jex.JaxprEqn) -> int | None:
    """Return which latent an equation declares; None for any other equation."""
    return equation.params["index"] if equation.primitive is _latent_p else None


def observed_index(equation: jex.JaxprEqn) -> int | None:
    """Return which observation an equation declares; None for any other equation."""
    return equation.params["index"] if equation.primitive is _observed_p else None


def _is_cut(equation: jex.JaxprEqn) -> bool:
    return equation.primitive in (_latent_p, _observed_p, _plate_p)


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """The equations between two declarations.

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
        observed: the same for each observation.
        stages: one more than there are declarations.
        cuts: the equations that declare, in order: latents, observations, plates.
        treedef: structure of the program.
        static: its leaves that are not arrays; None where an array was.
    """

    jaxpr: jex.ClosedJaxpr
    parameters: tuple[Parameters, ...]
    observed: tuple[Parameters, ...]
    stages: tuple[Stage, ...]
    cuts: tuple[Any, ...]
    treedef: Any
    static: tuple[Any, ...]

    def walk(
        self,
        program: PyTree,
        label: Any,
        fill: Fill,
        latents: int | None = None,
        see: See | None = None,
        rows: Mapping[str, Array] | None = None,
    ) -> Array | None:
        """Evaluate the program with ``fill(index, distribution)`` as the value of each latent.

        Args:
            program: of the structure that was traced.
            label: int32 scalar, or None where the program was traced without one.
            fill: called once for each latent, in order.
            latents: stop after so many latents; None evaluates everything.
            see: ``see(index, distribution, data)`` is the value of each observation; by default its data.
            rows: for each plate that was traced with fewer rows than it has, which are looked at.

        Returns:
            The generated value, or None where the walk stopped at the latents or nothing is generated.
        """
        arguments = self._arrays(program) + ([] if label is None else [jnp.asarray(label, jnp.int32)])
        values: dict[Any, Any] = dict(zip(self.jaxpr.jaxpr.constvars, self.jaxpr.consts, strict=True))
        values.update(zip(self.jaxpr.jaxpr.invars, arguments, strict=True))
        filled = 0
        for stage, equation in zip(self.stages, self.cuts, strict=False):
            if filled == latents:
                return None
            advance(stage, values)
            operands = [read(atom, values) for atom in equation.invars]
            filled += equation.primitive is _latent_p
            values[equation.outvars[0]] = self._declared(equation, operands, fill, see, rows or {})
        if latents is not None:
            return None
        advance(self.stages[-1], values)
        return read(self.jaxpr.jaxpr.outvars[0], values) if self.jaxpr.jaxpr.outvars else None

    def _declared(
        self, equation: Any, operands: list[Any], fill: Fill, see: See | None, rows: Mapping[str, Array]
    ) -> Any:
        """The value of a declaration."""
        if equation.primitive is _plate_p:
            return _rows(rows, **equation.params)
        index = equation.params["index"]
        if equation.primitive is _latent_p:
            return fill(index, self.parameters[index].distribution(operands))
        *arrays, data = operands
        return data if see is None else see(index, self.observed[index].distribution(arrays), data)

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


def _rows(rows: Mapping[str, Array], name: str, size: int) -> Array:
    if name not in rows or jnp.shape(rows[name]) != (size,):
        raise ProgramError(
            f"The program was traced for {size} rows of the plate {name!r} at a time, and was evaluated with "
            f"{'none' if name not in rows else jnp.shape(rows[name])}; expected their indices. Say which: "
            f"problem.at({{{name!r}: rows}})."
        )
    return jnp.asarray(rows[name], jnp.int32)


def advance(stage: Stage, values: dict[Any, Any]) -> None:
    """Add what a stage computes to the values of variables."""
    if stage.outputs:
        results = jex.jaxpr_as_fun(stage.jaxpr)(*(at_hand(values[variable]) for variable in stage.inputs))
        values.update(zip(stage.outputs, results, strict=True))


def read(atom: Any, values: dict[Any, Any]) -> Any:
    """Return the value of a variable or of a literal."""
    return atom.val if isinstance(atom, jex.Literal) else values[atom]


def cut(closed: jex.ClosedJaxpr) -> tuple[tuple[Stage, ...], tuple[Any, ...]]:
    """Cut a traced program where its sites are declared: the stages and the equations between them."""
    pieces: list[list[Any]] = [[]]
    cuts: list[Any] = []
    for equation in closed.jaxpr.eqns:
        if _is_cut(equation):
            cuts.append(equation)
            pieces.append([])
        else:
            pieces[-1].append(equation)
    stages: list[Stage] = []
    needed = variables(closed.jaxpr.outvars)
    for index in reversed(range(len(pieces))):
        stage = stage_of(closed, pieces[index], needed)
        stages.append(stage)
        needed |= set(stage.inputs)
        if index:
            needed |= variables(cuts[index - 1].invars)
    return tuple(reversed(stages)), tuple(cuts)


def stage_of(closed: jex.ClosedJaxpr, equations: list[Any], needed: set[Any]) -> Stage:
    """Return the equations that what is needed depends on, and those with effects."""
    kept: list[Any] = []
    reads = set(needed)
    for equation in reversed(equations):
        if equation.effects or not reads.isdisjoint(equation.outvars):
            kept.append(equation)
            reads |= variables(equation.invars)
    kept.reverse()
    made = [variable for equation in kept for variable in equation.outvars]
    outputs = tuple(variable for variable in made if variable in needed)
    read = [variable for equation in kept for variable in equation.invars if not isinstance(variable, jex.Literal)]
    inputs = tuple(dict.fromkeys(variable for variable in read if variable not in set(made)))
    effects = frozenset().union(*(equation.effects for equation in kept))
    jaxpr = jex.Jaxpr((), inputs, outputs, kept, effects, closed.jaxpr.debug_info)
    return Stage(jex.ClosedJaxpr(jaxpr, ()), inputs, outputs)


def variables(atoms: Sequence[Any]) -> set[Any]:
    """Return what is no literal."""
    return {atom for atom in atoms if not isinstance(atom, jex.Literal)}
