"""What a model file declares that fits a program to data: a program that observes, and a recipe; no teacher."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from pplemd.dsl import Problem, Program, constants, explained, trace_observed
from pplemd.errors import ProgramError, RecipeError
from pplemd.learning import FitRecipe
from pplemd.tasks.override import check_fields


@dataclasses.dataclass(frozen=True)
class Fit:
    """A program fitted to what it observes by Monte Carlo EM, declared. Nothing is computed until it is fitted.

        radon = em.Fit(program=lambda key: Radon(mean=jnp.zeros(()), log_spread=jnp.zeros(())))

    Attributes:
        program: builds the program, `key -> Program`; its `__call__` declares latents and observes data.
        recipe: how to fit.
    """

    program: Callable[[PRNGKeyArray], Program]
    recipe: FitRecipe = FitRecipe()

    def __post_init__(self):
        if not callable(self.program) or isinstance(self.program, type | Program):
            raise ProgramError(
                f"the fit's `program` is {_found(self.program)}; expected a function that builds one, "
                "`program=lambda key: Radon(mean=jnp.zeros(()))`."
            )
        if not isinstance(self.recipe, FitRecipe):
            raise RecipeError(f"the fit's `recipe` is {_found(self.recipe)}; expected em.FitRecipe(...).")


@dataclasses.dataclass(frozen=True)
class FitPlan:
    """A fit traced: shapes and types of everything.

    Attributes:
        fit: what was declared.
        program: the program, of shapes alone.
        problem: the traced program; of one row of its plate where the recipe takes rows.
    """

    fit: Fit
    program: Program
    problem: Problem


def plan_fit(fit: Fit) -> FitPlan:
    """Trace a fit once, abstractly; every mistake that can be seen without running it is found here.

    Raises:
        ProgramError: where the program observes nothing, or has latents that rows would split.
        RecipeError: where the recipe's fields do not fit.
    """
    check_fields(fit.recipe, "recipe")
    with explained("the fit's `program` to build one"):
        program, known = _traced(fit)
    rows = None if fit.recipe.rows is None else 1
    return FitPlan(fit, program, trace_observed(program, rows=rows, constants=known))


def _traced(fit: Fit) -> tuple[Program, list[Any]]:
    """The shapes of a fit's program, and for each leaf the array, where it is one that is not trained: data, too."""
    met: list[Program] = []

    def build(key: PRNGKeyArray) -> Program:
        met.append(build_observing(fit, key))
        return met[-1]

    shapes = eqx.filter_eval_shape(build, jax.random.key(0))
    arrays = [leaf for leaf in jax.tree.leaves(met) if isinstance(leaf, jax.Array)]
    if not all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in arrays):
        met.append(build_observing(fit, jax.random.key(0)))  # whole numbers of JAX's have no values while it is traced
    return shapes, constants(met[-1])


def build_observing(fit: Fit, key: PRNGKeyArray) -> Program:
    """The program at its start.

    Raises:
        ProgramError: where the fit's function builds something else.
    """
    program = fit.program(key)
    if not isinstance(program, Program):
        raise ProgramError(
            f"the fit's `program` built {_found(program)}; expected an instance of a class that derives from "
            "em.Program, as in `program=lambda key: Radon(mean=jnp.zeros(()))`."
        )
    return program


def data_digest(plan: FitPlan) -> str:
    """SHA-256 of all numbers that the program does not train: its data and its constants."""
    program = build_observing(plan.fit, jax.random.key(0))
    constants = [leaf for leaf in jax.tree.leaves(program) if isinstance(leaf, np.ndarray | np.generic)]
    digest = hashlib.sha256()
    for array in (*plan.problem.graph.jaxpr.consts, *constants):
        numbers = np.asarray(array)
        digest.update(f"{numbers.shape}{numbers.dtype}".encode() + np.ascontiguousarray(numbers).tobytes())
    return digest.hexdigest()


def _found(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
