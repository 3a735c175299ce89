"""A traced program as data: stages of a closed jaxpr, cut where its sites are declared; what depends on what."""

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Int, PyTree
from numpyro.distributions import Distribution

from pplemd.devices import at_hand
from pplemd.errors import ProgramError

ROWS = "rows"  # the plate of a program that is declared for one row of its data


class Source:
    """An array on the host of which rows are read when they are looked at. Compared by identity.

    Args:
        array: usually memory-mapped; the first axis is rows.
    """

    def __init__(self, array: np.ndarray):
        self.array = array
        self.dtype = jax.dtypes.canonicalize_dtype(array.dtype)

    def __call__(self, rows: Int[Array | np.ndarray, "..."]) -> np.ndarray:
        """Read rows: an array of their indices' shape, followed by the shape of one."""
        return np.asarray(self.array[np.asarray(rows)], self.dtype)


class HostColumn(eqx.Module):
    """A column that stays on the host: the device is sent the rows that it looks at.

    Attributes:
        source: what reads rows.
    """

    source: Source = eqx.field(static=True)

    def __init__(self, array: np.ndarray):
        self.source = Source(array)

    def __len__(self) -> int:
        return len(self.source.array)

    @property
    def dtype(self) -> np.dtype:
        """As JAX has it."""
        return self.source.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, rows first."""
        return self.source.array.shape

    def __getitem__(self, row: Int[Array, ""]) -> Array:
        """One row, read when this is computed; under `jax.vmap` all rows of a batch at once."""
        one = jax.ShapeDtypeStruct(self.shape[1:], self.source.dtype)
        return jax.pure_callback(self.source, one, row, vmap_method="broadcast_all")


class Inputs(eqx.Module):
    """What a traced program is given beside its own arrays and a label; arguments of whatever is compiled.

    Attributes:
        constants: large arrays that its `__call__` closed over.
        columns: data by name, whole.
        rows: of each plate of which only some rows are looked at, their indices.
        row: data of the one row that a program of single rows looks at; None where it takes whole columns.
    """

    constants: tuple[Array, ...] = ()
    columns: dict[str, Array | HostColumn] = eqx.field(default_factory=dict)
    rows: dict[str, Array] = eqx.field(default_factory=dict)
    row: dict[str, Array] | None = None

    def at(self, rows: Mapping[str, Int[Array, " rows"]], single: bool) -> "Inputs":
        """Return the same of some rows of the plates; of one row of all columns where the program is of single rows."""
        row = {name: column[jnp.asarray(rows[ROWS])[0]] for name, column in self.columns.items()} if single else None
        return Inputs(self.constants, self.columns, dict(rows), row)


Fill = Callable[[int, Distribution], Array]
See = Callable[[int, Distribution, Any], Any]  # data may be a literal, which JAX does not call an Array
LARGEST = 256  # bytes of a constant that stays in the compiled program; larger ones are arguments of it

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

    treedef: PyTree
    leaves: tuple[PyTree, ...]

    def distribution(self, arrays: Sequence[PyTree]) -> Distribution:
        """Return the distribution with the given arrays put back."""
        left = iter(arrays)
        return jax.tree.unflatten(self.treedef, [next(left) if leaf is None else leaf for leaf in self.leaves])

    def arrays(self, distribution: Distribution) -> list[PyTree]:
        """Return the arrays of a distribution of this structure, in order."""
        leaves = jax.tree.leaves(distribution)
        return [leaf for leaf, static in zip(leaves, self.leaves, strict=True) if static is None]


def split_parameters(distribution: Distribution) -> tuple[Parameters, list[PyTree]]:
    """Split a distribution into what is static of it and its arrays, in order."""
    leaves, treedef = jax.tree.flatten(distribution)
    static = tuple(None if is_array(leaf) else leaf for leaf in leaves)
    return Parameters(treedef, static), [leaf for leaf in leaves if is_array(leaf)]


def is_array(leaf: PyTree) -> bool:
    """Whether a leaf of a program or a distribution is an array, concrete, traced or only a shape."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | jax.ShapeDtypeStruct)


def bind_latent(index: int, arrays: Sequence[PyTree], shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Stage the declaration of latent number ``index`` with the arrays of its distribution as operands."""
    operands = [jnp.asarray(array) for array in arrays]
    return _latent_p.bind(*operands, index=index, shape=shape, dtype=jnp.dtype(dtype))


def bind_observed(index: int, arrays: Sequence[PyTree], data: Array) -> Array:
    """Stage observation number ``index`` with the arrays of its distribution and its data as operands."""
    return _observed_p.bind(*(jnp.asarray(array) for array in arrays), data, index=index)


def bind_plate(name: str, size: int) -> Array:
    """Stage a plate of which ``size`` rows are looked at; which, is known when the program is walked."""
    return _plate_p.bind(name=name, size=size)


def latent_index(equation: jex.JaxprEqn) -> int | None:
    """Return which latent an equation declares; None for any other equation."""
    return equation.params["index"] if equation.primitive is _latent_p else None


def observed_index(equation: jex.JaxprEqn) -> int | None:
    """Return which observation an equation declares; None for any other equation."""
    return equation.params["index"] if equation.primitive is _observed_p else None


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """The equations between two declarations.

    Attributes:
        jaxpr: the equations, closed.
        inputs: variables that it reads.
        outputs: variables that later stages read.
    """

    jaxpr: jex.ClosedJaxpr
    inputs: tuple[PyTree, ...]
    outputs: tuple[PyTree, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """A traced program. Compared by identity, so that it can be a static field.

    Attributes:
        jaxpr: the whole program: (large constants, arrays of the program, columns of data by sorted name, condition) ->
            generated value.
        parameters: for each latent, in order of declaration, what is static of its distribution.
        observed: the same for each observation.
        stages: one more than there are declarations.
        cuts: the equations that declare, in order: latents, observations, plates.
        treedef: structure of the program.
        static: its leaves that are not arrays; None where an array was.
        constants: how many arguments are large constants, whose values the problem holds.
        columns: names of the columns of data, sorted.
    """

    jaxpr: jex.ClosedJaxpr
    parameters: tuple[Parameters, ...]
    observed: tuple[Parameters, ...]
    stages: tuple[Stage, ...]
    cuts: tuple[PyTree, ...]
    treedef: PyTree
    static: tuple[PyTree, ...]
    constants: int = 0
    columns: tuple[str, ...] = ()

    def walk(
        self,
        program: PyTree,
        condition: PyTree,
        inputs: Inputs,
        fill: Fill,
        latents: int | None = None,
        see: See | None = None,
    ) -> Array | None:
        """Evaluate the program with ``fill(index, distribution)`` as the value of each latent.

        Args:
            program: of the structure that was traced.
            condition: one value of its form, or None where the program was traced without one.
            inputs: what it is given: constants, data, and which rows of its plates are looked at.
            fill: called once for each latent, in order.
            latents: stop after so many latents; None evaluates everything.
            see: ``see(index, distribution, data)`` is the value of each observation; by default its data.

        Returns:
            The generated value, or None where the walk stopped at the latents or nothing is generated.
        """
        leaves = jax.tree.leaves(condition)
        types = self.jaxpr.in_avals[len(self.jaxpr.in_avals) - len(leaves) :]
        conditions = [jnp.asarray(leaf, aval.dtype) for leaf, aval in zip(leaves, types, strict=True)]
        arguments = [*inputs.constants, *self._arrays(program), *self._data(inputs), *conditions]
        values: dict[Any, Any] = dict(zip(self.jaxpr.jaxpr.constvars, self.jaxpr.consts, strict=True))
        values.update(zip(self.jaxpr.jaxpr.invars, arguments, strict=True))
        filled = 0
        for stage, equation in zip(self.stages, self.cuts, strict=False):
            if filled == latents:
                return None
            advance(stage, values)
            operands = [read(atom, values) for atom in equation.invars]
            filled += equation.primitive is _latent_p
            values[equation.outvars[0]] = self._declared(equation, operands, fill, see, inputs.rows)
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
        expected = self.jaxpr.in_avals[self.constants : self.constants + len(arrays)]
        same = treedef == self.treedef and bool(eqx.tree_equal(static, self.static))
        if not same or any(a.shape != e.shape or a.dtype != e.dtype for a, e in zip(arrays, expected, strict=False)):
            raise ProgramError(
                "The program is not of the structure that the problem was traced from; expected the same classes, "
                "settings and array shapes (an EMA or an update of the traced program). Trace the new program."
            )
        return arrays

    def _data(self, inputs: Inputs) -> list[Any]:
        """The columns of data, in the order of the arguments."""
        found = inputs.columns if inputs.row is None else inputs.row
        first = self.constants + sum(leaf is None for leaf in self.static)
        for name, expected in zip(self.columns, self.jaxpr.in_avals[first:], strict=False):
            if name not in found or jnp.shape(found[name]) != expected.shape:
                raise ProgramError(
                    f"The program was traced for data {name!r} of shape {expected.shape}, and was evaluated with "
                    f"{jnp.shape(found[name]) if name in found else 'none'}; expected those. A program of single rows "
                    'looks at one: problem.at({"rows": number[None]}).'
                )
        return [found[name] for name in self.columns]


def hoisted(closed: jex.ClosedJaxpr) -> tuple[jex.ClosedJaxpr, tuple[PyTree, ...]]:
    """Turn the large constants of a traced program into its first arguments.

    What is compiled then holds none of them: it does not grow with what a program closes over.

    Returns:
        The program, and the constants.
    """
    jaxpr = closed.jaxpr
    pairs = list(zip(jaxpr.constvars, closed.consts, strict=True))
    large = [(variable, constant) for variable, constant in pairs if _is_large(constant)]
    small = [(variable, constant) for variable, constant in pairs if not _is_large(constant)]
    arguments = [*(variable for variable, _ in large), *jaxpr.invars]
    opened = jex.Jaxpr(
        [variable for variable, _ in small], arguments, jaxpr.outvars, jaxpr.eqns, jaxpr.effects, jaxpr.debug_info
    )
    return jex.ClosedJaxpr(opened, [constant for _, constant in small]), tuple(constant for _, constant in large)


def inlined(closed: jex.ClosedJaxpr) -> jex.ClosedJaxpr:
    """Return a traced program with the calls (`jax.jit`) inlined that hold large constants of their own."""
    if not any(_has_large(equation) for equation in closed.jaxpr.eqns):
        return closed
    return jax.make_jaxpr(lambda *arguments: _evaluated(closed, arguments))(*closed.in_avals)


def _evaluated(closed: jex.ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    values: dict[Any, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(closed.jaxpr.invars, arguments, strict=True))
    for equation in closed.jaxpr.eqns:
        operands = [read(atom, values) for atom in equation.invars]
        if _has_large(equation):
            results = _evaluated(equation.params["jaxpr"], operands)
        else:
            inputs = tuple(dict.fromkeys(one for one in equation.invars if not isinstance(one, jex.Literal)))
            single = jex.Jaxpr((), inputs, equation.outvars, [equation], equation.effects, closed.jaxpr.debug_info)
            results = jex.jaxpr_as_fun(jex.ClosedJaxpr(single, ()))(*(values[one] for one in inputs))
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom, values) for atom in closed.jaxpr.outvars]


def _has_large(equation: Any) -> bool:
    """Whether a call holds a large constant, itself or in a call within."""
    if equation.primitive.name not in ("jit", "pjit", "closed_call"):
        return False
    body = equation.params.get("jaxpr")
    return isinstance(body, jex.ClosedJaxpr) and (
        any(_is_large(one) for one in body.consts) or any(_has_large(inner) for inner in body.jaxpr.eqns)
    )


def _is_large(constant: Any) -> bool:
    return np.ndim(constant) > 0 and constant.size * constant.dtype.itemsize > LARGEST


def _rows(rows: Mapping[str, Array], name: str, size: int) -> Array:
    if name not in rows or jnp.shape(rows[name]) != (size,):
        raise ProgramError(
            f"The program was traced for {size} rows of the plate {name!r} at a time, and was evaluated with "
            f"{'none' if name not in rows else jnp.shape(rows[name])}; expected their indices. Say which: "
            f"problem.at({{{name!r}: rows}})."
        )
    return jnp.asarray(rows[name], jnp.int32)


def advance(stage: Stage, values: dict[PyTree, PyTree]) -> None:
    """Add what a stage computes to the values of variables."""
    if stage.outputs:
        results = jex.jaxpr_as_fun(stage.jaxpr)(*(at_hand(values[variable]) for variable in stage.inputs))
        values.update(zip(stage.outputs, results, strict=True))


def read(atom: PyTree, values: dict[PyTree, PyTree]) -> PyTree:
    """Return the value of a variable or of a literal."""
    return atom.val if isinstance(atom, jex.Literal) else values[atom]


def cut(closed: jex.ClosedJaxpr) -> tuple[tuple[Stage, ...], tuple[PyTree, ...]]:
    """Cut a traced program where its sites are declared: the stages and the equations between them."""
    pieces: list[list[Any]] = [[]]
    cuts: list[Any] = []
    for equation in closed.jaxpr.eqns:
        if equation.primitive in (_latent_p, _observed_p, _plate_p):
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


def stage_of(closed: jex.ClosedJaxpr, equations: list[PyTree], needed: set[PyTree]) -> Stage:
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


def variables(atoms: Sequence[PyTree]) -> set[PyTree]:
    """Return what is no literal."""
    return {atom for atom in atoms if not isinstance(atom, jex.Literal)}


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
    outputs = zip(jaxpr.outvars, closed.out_avals, of, strict=True)
    return [read(atom, values) if one else jax.ShapeDtypeStruct(aval.shape, aval.dtype) for atom, aval, one in outputs]


def _results(equation: Any, operands: list[Origins]) -> list[Origins]:
    index = latent_index(equation)
    if index is not None:
        return [frozenset({index})]
    if observed_index(equation) is not None:
        return [operands[-1]]  # the data, whatever its distribution depends on
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
