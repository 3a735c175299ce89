"""What a plan says of itself, before anything runs: sites, teacher, networks, memory, cost."""

from typing import Any

import equinox as eqx
import jax
import numpy as np

from pplemd.distil import distillation
from pplemd.learning import Taught
from pplemd.model import Plan
from pplemd.override import as_data

ADAM_COPIES = 2  # first and second moments


def describe(plan: Plan) -> dict[str, Any]:
    """A plan as plain data.

    Keys: name, sites, output, teacher, networks (parameters of each), recipe, memory (bytes held and bytes of one step's
    temporaries), cost (floating-point operations of one step, and network evaluations per chain).
    """
    return {
        "program": plan.problem.name,
        "sites": [_site(site) for site in plan.problem.sites],
        "output": {
            "name": plan.problem.output.name,
            "shape": list(plan.problem.output.shape),
            "depends_on": list(plan.problem.output.parents),
            "labelled": plan.problem.output.labelled,
        },
        "classes": plan.problem.classes,
        "teacher": _teacher(plan),
        "networks": _networks(plan),
        "recipe": as_data(plan.model.recipe),
        **_footprint(plan),
    }


def _site(site: Any) -> dict[str, Any]:
    return {
        "name": site.name,
        "distribution": site.family,
        "shape": list(site.shape),
        "depends_on": list(site.parents),
        "learned": site.learned,
        "labelled": site.labelled,
        "parameterization": "non-centered" if site.base == "normal" else "own coordinates (unconstrained)",
        "eligible": site.eligible,
    }


def _teacher(plan: Plan) -> dict[str, Any]:
    declared = plan.model.teacher
    kind = {"type": type(plan.teacher).__name__, "shape": list(plan.teacher.shape), "classes": plan.teacher.classes}
    if not isinstance(declared, Taught):
        return kind
    data = {"train": len(declared.data.train.x), "held_out": len(declared.data.test.x)}
    return {**kind, "taught_on": data, "recipe": as_data(declared.recipe)}


def _networks(plan: Plan) -> dict[str, int]:
    fields = {
        f"{plan.problem.name}.{name}": parameters(getattr(plan.program, name))
        for name in type(plan.program).__dataclass_fields__
    }
    return {**fields, "score network": parameters(plan.score_network), "teacher": parameters(plan.teacher)}


def parameters(tree: Any) -> int:
    """The number of parameters of a module, of arrays or of shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape"))


def _footprint(plan: Plan) -> dict[str, Any]:
    """Bytes and operations of one EM step, from the compiler's own account of it."""
    work = distillation(plan, plan.teacher, plan.model.recipe)
    state = eqx.filter_eval_shape(work.initial)
    compiled = eqx.filter_jit(lambda step, *args: step(*args)).lower(work.step, state, work.key).compile()
    analysis = compiled.compiled.memory_analysis()
    costs = compiled.compiled.cost_analysis() or {}
    held = _bytes(state) + _bytes(plan.teacher)
    recipe = plan.model.recipe
    return {
        "memory": {
            "held_bytes": held,
            "temporary_bytes": getattr(analysis, "temp_size_in_bytes", None),
        },
        "cost": {
            "flops_per_step": costs.get("flops"),
            "chains": recipe.batch,
            "kernel_steps_per_chain": recipe.chain.length,
            "score_evaluations_per_chain": 2 * recipe.chain.length,
            "score_updates": recipe.score.updates,
        },
    }


def _bytes(tree: Any) -> int:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]
    return sum(int(np.prod(leaf.shape)) * np.dtype(leaf.dtype).itemsize for leaf in leaves)
