"""What is held equal: steps, network evaluations or seconds; and how many steps that is."""

import dataclasses
import math
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pplemd.errors import RecipeError
from pplemd.planning.cost import operations
from pplemd.tasks.distillation import Distillation, distillation, first_shapes
from pplemd.tasks.model import Plan

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
    optimisers), over those of one forward pass of the student's score network for one sample. Gradients count as what
    they cost, a teacher that is cheaper or dearer than the score network as well.
    """
    step = eqx.filter_eval_shape(lambda teacher: distillation(plan, teacher).step, plan.teacher)
    arrays, static = eqx.partition((step, first_shapes(plan).state), _is_array)

    def whole(held, key):
        one, state = eqx.combine(held, static)
        after, metrics = one(state, key)
        return eqx.filter(after, eqx.is_array), metrics

    key = jax.eval_shape(lambda: jax.random.key(0))
    return operations(whole, arrays, key) / (one_forward(plan) * plan.model.recipe.batch)


def one_forward(plan: Plan) -> float:
    """Operations of one forward pass of the student's score network, for one sample."""
    arrays, static = eqx.partition(plan.score_network, _is_array)
    x = jax.ShapeDtypeStruct(plan.score_network.shape, jnp.float32)
    label = None if plan.score_network.classes is None else jax.ShapeDtypeStruct((), jnp.int32)

    def forward(held, x, sigma, label):
        return eqx.combine(held, static).denoise(x, sigma, label)

    return operations(forward, arrays, x, jax.ShapeDtypeStruct((), jnp.float32), label)


def _is_array(leaf) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)


def seconds_per_step(work: Distillation) -> float:
    """Median wall time of a compiled step on this machine, as its first steps take."""
    step, state = eqx.filter_jit(lambda held, state, key: held(state, key)[0]), work.initial()
    taken: list[float] = []
    while len(taken) < WARM + LEAST or sum(taken[WARM:]) < ENOUGH:
        began = time.perf_counter()
        state = jax.block_until_ready(step(work.step, state, jax.random.fold_in(work.key, len(taken))))
        taken.append(time.perf_counter() - began)
    return float(np.median(taken[WARM:]))
