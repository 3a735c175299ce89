"""What is kept equal: steps, network evaluations or seconds; and how many steps that is."""

import dataclasses
import math
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pplemd.errors import RecipeError
from pplemd.planning.cost import operations
from pplemd.tasks.base import Work
from pplemd.tasks.describing import is_array
from pplemd.tasks.distillation import Plan

KINDS = ("steps", "evaluations", "seconds")
WARM, LEAST, ENOUGH = 2, 5, 3.0  # steps before the clock runs; steps and seconds after which it stops


@dataclasses.dataclass(frozen=True)
class Budget:
    """What every method may spend.

    Attributes:
        kind: steps; evaluations: forward passes of the score network for one sample, or operations worth as many;
            seconds: of training, as measured before on this machine.
        amount: how much.
    """

    kind: str
    amount: float

    @classmethod
    def read(cls, text: str) -> "Budget":
        """From `steps=N`, `evaluations=N` or `seconds=N`.

        Raises:
            RecipeError: where it is something else.
        """
        kind, _, number = text.partition("=")
        try:
            amount = float(number)
        except ValueError:
            amount = math.nan
        if kind not in KINDS or not 1 <= amount < math.inf:
            raise RecipeError(
                f"--budget {text}: expected steps=N, evaluations=N or seconds=N with N >= 1, as in --budget steps=2000."
            )
        return cls(kind, amount)

    def __str__(self) -> str:
        return f"{self.kind}={self.amount:g}"


def forwards_per_step(plan: Plan) -> float:
    """Forward passes that a step of a plan is worth, for each sample of its batch.

    All operations of the step's trace (score updates, E-step or what stands for it, generator update, anchor,
    optimisers), over those of one forward pass of the student's score network for one sample; of the teacher where
    there is no score network. Gradients count as what they cost, a teacher that is cheaper or more expensive than the
    score network as well.
    """
    arrays, static = eqx.partition(plan.shapes_of(lambda work: (work.step, work.initial())), is_array)

    def whole(arrays, key):
        one, state = eqx.combine(arrays, static)
        after, metrics = one(state, key)
        return eqx.filter(after, eqx.is_array), metrics

    key = jax.eval_shape(lambda: jax.random.key(0))
    return operations(whole, arrays, key) / (one_forward(plan) * plan.model.training.batch)


def one_forward(plan: Plan) -> float:
    """Operations of one forward pass of the student's score network, for one sample."""
    network = plan.networks.get("score", plan.teacher)
    arrays, static = eqx.partition(network, is_array)
    x = jax.ShapeDtypeStruct(network.shape, jnp.float32)
    condition = None if network.classes is None else jax.ShapeDtypeStruct((), jnp.int32)

    def forward(arrays, x, sigma, condition):
        return eqx.combine(arrays, static).denoise(x, sigma, condition)

    return operations(forward, arrays, x, jax.ShapeDtypeStruct((), jnp.float32), condition)


def seconds_per_step(work: Work) -> float:
    """Median wall time of a compiled step on this machine, as its first steps take."""
    step, state = eqx.filter_jit(lambda arrays, state, key: arrays(state, key)[0]), work.initial()
    taken: list[float] = []
    while len(taken) < WARM + LEAST or sum(taken[WARM:]) < ENOUGH:
        began = time.perf_counter()
        state = jax.block_until_ready(step(work.step, state, jax.random.fold_in(work.key, len(taken))))
        taken.append(time.perf_counter() - began)
    return float(np.median(taken[WARM:]))
