"""What a plan says of itself, before anything runs: sites, teacher, networks, memory, cost."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from pplemd.cost import operations
from pplemd.distillation import distillation, first_shapes
from pplemd.dsl import Site
from pplemd.learning import EMState, EMStep, Taught
from pplemd.model import Plan
from pplemd.override import as_data
from pplemd.teachers import Guided

# of LLVM alone, and of no effect on buffers: the step is compiled to be looked at
COMPILER_OPTIONS: Any = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def describe(plan: Plan) -> dict[str, Any]:
    """A plan as plain data.

    Keys: program, sites, output, classes, teacher, networks (parameters of each), recipe, memory (bytes held, and bytes
    of one step's temporaries) and cost (floating-point operations of one step, and how often each network is asked).
    """
    output = plan.problem.output
    return {
        "program": plan.problem.name,
        "sites": [_site(site) for site in plan.problem.sites],
        "output": {
            "name": output.name,
            "shape": list(output.shape),
            "depends_on": list(output.parents),
            "labelled": output.labelled,
        },
        "classes": plan.problem.classes,
        "teacher": _teacher(plan),
        "networks": _networks(plan),
        "recipe": as_data(plan.model.recipe),
        **_footprint(plan),
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
    }


def _teacher(plan: Plan) -> dict[str, Any]:
    declared = plan.model.teacher
    kind = {"type": type(plan.teacher).__name__, "shape": list(plan.teacher.shape), "classes": plan.teacher.classes}
    if isinstance(plan.teacher, Guided):
        kind["guidance"] = as_data(plan.teacher.guidance)
    if not isinstance(declared, Taught):
        return kind
    data = {"train": len(declared.data.train.x), "held_out": len(declared.data.test.x)}
    return {**kind, "taught_on": data, "recipe": as_data(declared.recipe)}


def _networks(plan: Plan) -> dict[str, int]:
    fields = {
        f"{plan.problem.name}.{name}": parameters(getattr(plan.program, name))
        for name in type(plan.program).__dataclass_fields__
    }
    found = {**fields, "score network": parameters(plan.score_network), "teacher": parameters(plan.teacher)}
    return {name: count for name, count in found.items() if count}


def parameters(tree: Any) -> int:
    """The number of parameters of a module, of arrays or of shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree) if _is_array(leaf))


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def _footprint(plan: Plan) -> dict[str, Any]:
    """Bytes of one EM step, from the compiler's own account of it, and operations, counted on its trace."""
    recipe, state = plan.model.recipe, first_shapes(plan).state
    step = eqx.filter_eval_shape(lambda teacher: distillation(plan, teacher).step, plan.teacher)
    call, arguments = _call(step, state)
    analysis = jax.jit(call).lower(*arguments).compile(COMPILER_OPTIONS).memory_analysis()
    return {
        "memory": {
            "held_bytes": _bytes(state) + _bytes(step),
            "temporary_bytes": getattr(analysis, "temp_size_in_bytes", None),
        },
        "cost": {
            "flops_per_step": operations(call, *arguments),
            "chains": recipe.batch,
            "kernel_steps_per_chain": recipe.chain.length,
            "score_updates": recipe.score_updates,
        },
    }


def _call(step: EMStep, state: EMState) -> tuple[Callable, tuple[Any, Any]]:
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
