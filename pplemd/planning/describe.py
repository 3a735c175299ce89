"""What a plan says of itself, before anything runs: sites, teacher, networks, memory, cost."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from pplemd.dsl import Site
from pplemd.importers import Imported
from pplemd.learning import FIT_PARTS, PARTS, EMState, EMStep, FitState, FitStep, Taught
from pplemd.planning.cost import operations_of_parts, products, traced
from pplemd.planning.liveness import peak_bytes
from pplemd.tasks.distillation import state_shapes
from pplemd.tasks.fits import FitPlan
from pplemd.tasks.fitting import first_fit_shapes, fitting
from pplemd.tasks.model import Plan
from pplemd.tasks.override import as_data
from pplemd.teachers import AbstractTeacher, Posterior, guidance_of

# of LLVM alone, and of no effect on buffers: the step is compiled to be looked at
COMPILER_OPTIONS: Any = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def describe(plan: Plan, compiled: bool = True) -> dict[str, Any]:
    """A plan as plain data.

    Keys: program, sites, output, classes, teacher, networks (parameters of each), recipe, memory (bytes held, of what,
    and bytes of one step's temporaries) and cost (floating-point operations of one step, by part, those of products
    and convolutions alone, and how often each network is asked).

    Args:
        plan: the plan.
        compiled: whether to compile the step, for the compiler's own account of its temporaries; else they are
            estimated from its trace.
    """
    output, recipe = plan.problem.output, plan.model.recipe
    step, state = state_shapes(plan)
    memory, operations = _footprint(step, state, PARTS, compiled)
    memory["of"] = _held(state, step.teacher)
    cost = {
        "chains": recipe.batch,
        "kernel_steps_per_chain": recipe.chain.length,
        "score_updates": recipe.score_updates,
    }
    return {
        "program": plan.problem.name,
        "sites": [_site(site) for site in plan.problem.sites],
        "output": {
            "name": output.name,
            "shape": list(output.shape),
            "depends_on": list(output.parents),
            "labelled": output.labelled,
            "centered": output.centered,
        },
        "classes": plan.problem.classes,
        "teacher": _teacher(plan),
        "networks": _networks(plan),
        "recipe": as_data(plan.model.recipe),
        "memory": memory,
        "cost": {**operations, **cost},
    }


def _site(site: Site) -> dict[str, Any]:
    return {
        "name": site.name,
        "distribution": site.family,
        "shape": list(site.shape),
        "depends_on": list(site.parents),
        "learned": site.learned,
        "labelled": site.labelled,
        "parameterization": "non-centered" if site.base == "normal" else "unconstrained",
        "eligible": site.eligible,
        "centered": site.centered,
        "plates": list(site.plates),
    }


def describe_fit(plan: FitPlan, compiled: bool = True) -> dict[str, Any]:
    """A fit's plan as plain data.

    Keys: program, sites, observed, plates, output (None where nothing is generated), networks (parameters of each
    field), recipe, memory and cost, as `describe` has them.

    Args:
        plan: the plan.
        compiled: whether to compile the step, as for `describe`.
    """
    problem, recipe = plan.problem, plan.fit.recipe
    output = problem.generated
    plates = {plate.name: plate.size for plate in problem.plates}
    chains = plates[problem.plates[0].name] if recipe.rows is not None and problem.plates else recipe.chains
    cost = {"chains": min(recipe.rows or chains, chains), "kernel_steps_per_chain": recipe.chain.length}
    step, state = eqx.filter_eval_shape(lambda: fitting(plan).step), first_fit_shapes(plan).state
    memory, operations = _footprint(step, state, FIT_PARTS, compiled)
    return {
        "program": problem.name,
        "sites": [_site(site) for site in problem.sites],
        "observed": [
            {
                "name": one.name,
                "distribution": one.family,
                "shape": list(one.shape),
                "depends_on": list(one.parents),
                "learned": one.learned,
            }
            for one in problem.observed
        ],
        "plates": plates,
        "output": None if output is None else {"name": output.name, "shape": list(output.shape)},
        "networks": {name: count for name, count in _fields(problem.name, plan.program).items() if count},
        "recipe": as_data(recipe),
        "memory": {**memory, "of": _held_by_fit(state)},
        "cost": {**operations, **cost},
    }


def _teacher(plan: Plan) -> dict[str, Any]:
    declared = plan.model.teacher
    kind: dict[str, Any] = {
        "type": type(plan.teacher).__name__,
        "shape": list(plan.teacher.shape),
        "classes": plan.teacher.classes,
    }
    if isinstance(plan.teacher, Posterior):
        kind["notes"] = list(plan.teacher.notes)
    guidance = guidance_of(plan.teacher)
    if guidance is not None:
        kind["guidance"] = as_data(guidance)
    if isinstance(declared, Imported):
        return {**kind, "imported": None if declared.path is None else str(declared.path), **declared.told()}
    if not isinstance(declared, Taught):
        return kind
    data = {"train": len(declared.data.train.x), "held_out": len(declared.data.test.x)}
    return {**kind, "taught_on": data, "recipe": as_data(declared.recipe)}


def _networks(plan: Plan) -> dict[str, int]:
    found = {
        **_fields(plan.problem.name, plan.program),
        "score network": parameters(plan.score_network),
        "teacher": parameters(plan.teacher),
    }
    return {name: count for name, count in found.items() if count}


def _fields(name: str, program: Any) -> dict[str, int]:
    """Parameters of each field of a program."""
    return {f"{name}.{field}": parameters(getattr(program, field)) for field in type(program).__dataclass_fields__}


def parameters(tree: Any) -> int:
    """The number of parameters of a module, of arrays or of shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree) if _is_array(leaf))


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _footprint(
    step: EMStep | FitStep, state: Any, parts: tuple[str, ...], compiled: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Bytes of one EM step, from the compiler's own account of it or from its trace, and operations of the trace."""
    call, arguments = _call(step, state)
    trace = traced(call, *arguments)
    counted = operations_of_parts(trace, parts)
    temporary = _temporary(call, arguments) if compiled else peak_bytes(trace)
    memory = {"held_bytes": _bytes(state) + _bytes(step), "temporary_bytes": temporary}
    return memory, {"flops_per_step": sum(counted.values()), "product_flops": products(trace), "parts": counted}


def temporaries(plan: Plan) -> int:
    """Bytes that a step of a plan needs besides what is held, estimated from its trace."""
    call, arguments = _call(*state_shapes(plan))
    return peak_bytes(traced(call, *arguments))


def gradients(plan: Plan) -> int:
    """Bytes of the largest gradient that a step of a plan takes: of the program, or of the score network."""
    return max(_bytes(plan.program), _bytes(plan.score_network))


def _temporary(call: Callable, arguments: tuple[Any, Any]) -> int | None:
    """What the compiler says that a step needs besides what is held."""
    analysis = jax.jit(call).lower(*arguments).compile(COMPILER_OPTIONS).memory_analysis()
    return getattr(analysis, "temp_size_in_bytes", None)


def _held(state: EMState, teacher: AbstractTeacher) -> dict[str, int]:
    """Bytes of what is held, by what it is."""
    learners = (state.generator, state.score)
    return {
        "networks": sum(_bytes(learner.module) for learner in learners),
        "average": _bytes(state.average),
        "optimisers": sum(_bytes(learner) - _bytes(learner.module) for learner in learners),
        "teacher": _bytes(teacher),
    }


def _held_by_fit(state: FitState) -> dict[str, int]:
    """Bytes of what a fit holds, by what it is."""
    return {
        "program": _bytes(state.learner.module),
        "average": _bytes(state.average),
        "optimiser": _bytes(state.learner) - _bytes(state.learner.module),
        "chains": _bytes(state.positions),
    }


def _call(step: EMStep | FitStep, state: Any) -> tuple[Callable, tuple[Any, Any]]:
    """The step as a function of arrays alone, and the shapes of its arguments."""
    arrays, static = eqx.partition((step, state), _is_array)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arrays)

    def call(held, key):
        whole, before = eqx.combine(held, static)
        after, metrics = whole(before, key)
        return eqx.filter(after, eqx.is_array), metrics

    return call, (shapes, jax.eval_shape(lambda: jax.random.key(0)))


def _bytes(tree: Any) -> int:
    return sum(
        int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(tree) if _is_array(leaf)
    )
