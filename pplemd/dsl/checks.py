"""What a program must be before it is traced, and what its trace must have declared."""

import inspect
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import PyTree

from pplemd.conditions import AbstractCondition
from pplemd.dsl.effects import Declarations, DeclaredLatent, DeclaredOutput
from pplemd.dsl.graph import Differentiated, Graph, Origins, is_array, observed_index, origin_of, reached
from pplemd.dsl.locations import defined
from pplemd.dsl.program import Program
from pplemd.errors import ProgramError


def check_program(program: PyTree) -> None:
    """Raise unless this is an instance of a `Program`."""
    if isinstance(program, type):
        raise ProgramError(
            f"Found the class {program.__name__} itself; expected an instance of it. "
            f"Build it with its networks: {program.__name__}(net=...)."
        )
    if not isinstance(program, Program):
        raise ProgramError(
            f"Found a {type(program).__name__}; expected an instance of a pplemd Program. "
            "Derive its class from Program and build it with its networks."
        )


def check_trained(program: Program) -> None:
    """Raise unless a program has something to train."""
    if not any(is_trained(leaf) for leaf in jax.tree.leaves(program)):
        raise ProgramError(
            f"{defined(program)}: {type(program).__name__} holds no trainable array; expected a field with at least "
            "one floating-point JAX array (NumPy arrays and Python numbers are constants). Give it a network."
        )


def is_trained(leaf: PyTree) -> bool:
    """Whether a leaf of a program is trained: a floating-point JAX array, or the shape of one."""
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def constants(program: Program) -> list[PyTree]:
    """Return, for each leaf of a program, the array, where it is one that is known and not trained, else None."""
    return [leaf if is_array(leaf) and _is_known(leaf) else None for leaf in jax.tree.leaves(program)]


def _is_known(leaf: Any) -> bool:
    return not isinstance(leaf, jax.ShapeDtypeStruct | jax.core.Tracer) and not is_trained(leaf)


def check_signature(program: Program, condition: AbstractCondition | None) -> None:
    """Raise unless ``__call__`` takes nothing, or one condition where there is one."""
    parameters = list(inspect.signature(program.__call__).parameters.values())
    place, name = defined(program), type(program).__name__
    kinds = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    if len(parameters) > 1 or any(one.kind not in kinds for one in parameters):
        found = ", ".join(["self", *(str(one) for one in parameters)])
        raise ProgramError(
            f"{place}: {name}.__call__ has the arguments ({found}); expected (self) or (self, condition). "
            "Make everything else a field of the program."
        )
    if condition is None and parameters and parameters[0].default is inspect.Parameter.empty:
        raise ProgramError(
            f"{place}: {name}.__call__ needs {parameters[0].name!r}, but the teacher has no condition; expected (self) "
            f"or (self, {parameters[0].name}=None). Remove it, or use a conditional teacher, such as one built with "
            "`classes=`."
        )
    if condition is not None and not parameters:
        raise ProgramError(
            f"{place}: {name}.__call__ takes no condition, but the teacher is conditioned on {condition.words}; "
            "expected (self, label) or another name. Add it and pass it to the network, or use a teacher without one."
        )


def check_shape(shape: PyTree) -> None:
    """Raise unless the teacher's shape is possible."""
    if any(not isinstance(size, int) or size < 1 for size in shape):
        raise ProgramError(f"Found the sample shape {shape}; expected positive integers. Pass the teacher's shape.")


def check_generates(program: Program, declarations: Declarations) -> None:
    """Raise unless a program generates something."""
    if not declarations.outputs:
        raise ProgramError(
            f"{defined(program)}: the program generated nothing; expected one generate(name, value). "
            'End __call__ with: return generate("x", value).'
        )


def check_unobserved(declarations: Declarations) -> None:
    """Raise where a program that a teacher is distilled into observes data."""
    for one in declarations.observed:
        raise ProgramError(
            f"{one.place}: site {one.name!r} is observed; expected latents only, since the teacher takes the place of "
            "the data. Remove the observation, or fit the program to its data instead."
        )


def check_observed(program: Program, declarations: Declarations) -> None:
    """Raise unless a program has latents and observes data."""
    if not declarations.observed:
        raise ProgramError(
            f"{defined(program)}: the program observes nothing; expected at least one observe(name, distribution, "
            "data), given its latents. Declare the data, or distil the program from a teacher instead."
        )
    if not declarations.latents:
        raise ProgramError(
            f"{defined(program)}: the program has no latent; expected at least one latent(name, distribution) that "
            "the data depend on."
        )
    for output in declarations.outputs:
        if output.centered != "auto":
            raise ProgramError(
                f"{output.place}: generated {output.name!r} has a `centered` of its own; expected none in a program "
                "that observes, whose x is not noised. Leave it out, or center its latents."
            )


def check_constant(program: Program, constants: Sequence[PyTree], graph: Graph, declarations: Declarations) -> None:
    """Raise where a trained array serves as data alone: training would move the data to what is likely."""
    found = zip(jax.tree_util.tree_leaves_with_path(program), constants, strict=True)
    paths = [(path, is_trained(leaf) and one is None) for (path, leaf), one in found if is_array(leaf)]
    seeds: list[Origins] = [frozenset({Differentiated(i)} if trained else ()) for i, (_, trained) in enumerate(paths)]
    of = reached(graph, seeds)
    observed = [one for one in graph.cuts if observed_index(one) is not None]
    laws = [atom for one in graph.cuts for atom in (one.invars[:-1] if one in observed else one.invars)]
    needed = frozenset[Any]().union(*(origin_of(atom, of) for atom in (*laws, *graph.jaxpr.jaxpr.outvars)))
    for site, equation in zip(declarations.observed, observed, strict=True):
        for origin in origin_of(equation.invars[-1], of) - needed:
            if isinstance(origin, Differentiated):
                name = jax.tree_util.keystr(paths[origin.leaf][0], simple=True, separator=".")
                raise ProgramError(
                    f"{site.place}: the data of {site.name!r} are the program's {name!r}, a floating-point JAX array, "
                    "which is trained: its numbers would move to what is likely. Make it one of NumPy: np.asarray(...)."
                )


def check_local(declarations: Declarations) -> None:
    """Raise where only some rows of a plate are looked at and a latent belongs to none of them."""
    for plate in declarations.plates:
        if plate.rows == plate.size:
            continue
        for latent in declarations.latents:
            if latent.plates != (plate.name,) or latent.shape[:1] != (plate.rows,):
                raise ProgramError(
                    f"{latent.place}: latent {latent.name!r} has shape {latent.shape} in the plates {latent.plates}; "
                    f"expected its first axis to be the {plate.rows} rows of plate {plate.name!r}, since a minibatch "
                    "of rows has no posterior of what all rows share. Declare it within the plate, make it a trained "
                    "field of the program, or look at all rows together."
                )


def check_movable(latent: DeclaredLatent, eligible: bool) -> None:
    """Raise where a latent shall be centered so far that has nothing to be centered on."""
    if latent.centered != "auto" and not eligible:
        raise ProgramError(
            f"{latent.place}: latent {latent.name!r} has a `centered` of its own, but neither the location nor the "
            "scale of its law depends on another latent or on a trained array, so that all coordinates are alike. "
            "Leave `centered` out."
        )


def check_declared(program: Program, declarations: Declarations, result: PyTree) -> jax.Array | None:
    """Return the generated value, if there is one; raise unless ``__call__`` returned it or nothing."""
    value = declarations.outputs[0].value if declarations.outputs else None
    if result is not None and result is not value and declarations.outputs:
        raise ProgramError(
            f"{defined(program)}: __call__ returned something other than the generated value "
            f"{declarations.outputs[0].name!r}; expected that value, or nothing. "
            'End __call__ with: return generate("x", value).'
        )
    return value


def check_closed(program: Program, constants: Sequence[PyTree]) -> None:
    """Raise if the program uses a traced value of another transformation as if it were a constant."""
    if any(isinstance(constant, jax.core.Tracer) for constant in constants):
        raise ProgramError(
            f"{defined(program)}: found a traced value that left its transformation; expected the program to depend "
            "on its fields, its condition and its latents only. Return the value from the function that was "
            "transformed, or make it a field."
        )


def check_output(output: DeclaredOutput, found: PyTree, shape: tuple[int, ...], dtype: DTypeLike) -> None:
    """Raise unless the generated value has the teacher's dtype and shape."""
    if found.shape != tuple(shape):
        raise ProgramError(
            f"{output.place}: generated {output.name!r} has shape {found.shape}; expected the teacher's {tuple(shape)}"
            f"{_shape_repair(found.shape, tuple(shape))}"
        )
    if found.dtype != jnp.dtype(dtype):
        raise ProgramError(
            f"{output.place}: generated {output.name!r} has dtype {found.dtype}; expected {jnp.dtype(dtype)}. "
            f"Convert it with .astype(jnp.{jnp.dtype(dtype)}), and check what the network computes in."
        )


def _shape_repair(found: Sequence[int], shape: Sequence[int]) -> str:
    if len(found) == len(shape) + 1 and tuple(found[1:]) == tuple(shape):
        return ". Remove the batch dimension: a program is written for one sample."
    return ". Change the network's output shape, or reshape the value."


def check_depends(output: DeclaredOutput, reached: Origins) -> None:
    """Raise unless the generated value depends on a latent."""
    if not any(isinstance(origin, int) for origin in reached):
        raise ProgramError(
            f"{output.place}: generated {output.name!r} depends on no latent, so that every sample would be the same; "
            "expected a value computed from at least one. Pass a latent to the network."
        )
