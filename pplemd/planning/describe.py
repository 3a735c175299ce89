"""What a plan says of itself, before anything runs: sites, teacher, networks, numbers, memory, cost."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from pplemd.learning import Step, TrainState
from pplemd.planning.cost import operations_of_parts, peak_bytes, products, traced
from pplemd.tasks.base import AbstractPlan
from pplemd.tasks.describing import is_array, site, size_in_bytes

# of LLVM alone, and of no effect on buffers: the step is compiled to be looked at
COMPILER_OPTIONS: Any = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def describe(plan: AbstractPlan, compiled: bool = True) -> dict[str, Any]:
    """A plan as plain data.

    Keys: program, sites, the numbers of the task (algorithm, training, ...), memory (bytes kept, of what, and bytes of
    one step's temporaries) and cost (floating-point operations of one step, by part, those of products and convolutions
    alone, and what a step consists of); of a distillation also output, classes, teacher and networks (parameters of
    each); of a fit observed, plates, output and networks.

    Args:
        plan: the plan.
        compiled: whether to compile the step, for the compiler's own account of its temporaries; else they are
            estimated from its trace.
    """
    step, state = plan.shapes_of(lambda work: (work.step, work.initial()))
    call, arguments = _call(step, state)
    trace = traced(call, *arguments)
    counted = operations_of_parts(trace, parts_of(step))
    declared = plan.described()
    counts: Any = declared.pop("counts")
    networks: Any = declared.pop("networks")
    # bytes of what is kept, by what it is
    learners = state.learners.values()
    found = {
        "networks": sum(size_in_bytes(one.module) for one in learners),
        "averages": size_in_bytes(state.averages),
        "optimisers": sum(size_in_bytes(one) - size_in_bytes(one.module) for one in learners),
        "memory": size_in_bytes((state.memory, state.tuning)),
        "teacher and data": size_in_bytes(step),
    }
    memory_of = {name: count for name, count in found.items() if count}
    return {
        "program": None if plan.problem is None else plan.problem.name,
        "sites": [] if plan.problem is None else [site(one) for one in plan.problem.sites],
        **declared,
        "networks": {name: count for name, count in networks.items() if count},
        **plan.task.recorded(),
        "memory": {
            "held_bytes": size_in_bytes(state) + size_in_bytes(step),
            "temporary_bytes": _temporary(call, arguments) if compiled else peak_bytes(trace),
            "of": memory_of,
        },
        "cost": {
            "flops_per_step": sum(counted.values()),
            "product_flops": products(trace),
            "parts": counted,
            **counts,
        },
    }


def parts_of(step: Step) -> tuple[str, ...]:
    """What the parts of a step are called in its trace, in order."""
    return tuple(dict.fromkeys(part for update in step.algorithm.updates() for part in update.parts))


def temporaries(plan: AbstractPlan) -> int:
    """Bytes that a step of a plan needs besides what is kept, estimated from its trace."""
    call, arguments = _call(*plan.shapes_of(lambda work: (work.step, work.initial())))
    return peak_bytes(traced(call, *arguments))


def gradients(plan: AbstractPlan) -> int:
    """Bytes of the largest gradient that a step of a plan takes."""
    networks = plan.shapes_of(lambda work: work.initial().networks)
    return max(size_in_bytes(network) for network in networks.values())


def _temporary(call: Callable, arguments: tuple[Any, Any]) -> int | None:
    """What the compiler says that a step needs besides what is kept."""
    analysis = jax.jit(call).lower(*arguments).compile(COMPILER_OPTIONS).memory_analysis()
    return getattr(analysis, "temp_size_in_bytes", None)


def _call(step: Step, state: TrainState) -> tuple[Callable, tuple[Any, Any]]:
    """The step as a function of arrays alone, and the shapes of its arguments."""
    arrays, static = eqx.partition((step, state), is_array)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arrays)

    def call(arrays, key):
        whole, before = eqx.combine(arrays, static)
        after, metrics = whole(before, key)
        return eqx.filter(after, eqx.is_array), metrics

    return call, (shapes, jax.eval_shape(lambda: jax.random.key(0)))
