"""What is compared: algorithms with changes of their own, and the budget that each may spend."""

import dataclasses
import math
import re
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pplemd.algorithms import EMD, AbstractDistillation
from pplemd.errors import RecipeError
from pplemd.planning.cost import operations
from pplemd.tasks.base import Work
from pplemd.tasks.describing import is_array
from pplemd.tasks.distillation import Plan
from pplemd.tasks.override import override

EMD_OF_LENGTH = re.compile(r"emd-(\d+)")


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What a contender's changes are tried on, so that a mistake in one shows at once."""

    algorithm: AbstractDistillation = EMD()


@dataclasses.dataclass(frozen=True)
class Contender:
    """One of the algorithms compared.

    Attributes:
        name: as it was asked for.
        overrides: what it changes of the model's numbers, `path=value`.
    """

    name: str
    overrides: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name as that of a folder."""
        return re.sub(r"[^A-Za-z0-9.=+-]+", "-", self.name).strip("-")


def contenders(text: str) -> tuple[Contender, ...]:
    """The algorithms of a list such as `emd,emd-16,sid:algorithm.alpha=1,dmd:algorithm.anchor=none`.

    A name is an algorithm's (`emd`, `diff-instruct`, `dmd`, `sid`, `sim`, `consistency`); `emd-K` is EM distillation
    with chains of K steps; what follows colons changes its numbers alone.

    Raises:
        RecipeError: no name, one twice, an unknown one, or a change that is no `path=value`.
    """
    found = tuple(_contender(part.strip()) for part in text.split(",") if part.strip())
    if not found:
        raise RecipeError(
            "--algorithms needs at least one name, as in --algorithms emd,diff-instruct,dmd,sid; found none."
        )
    folders = [one.folder for one in found]
    twice = sorted({folder for folder in folders if folders.count(folder) > 1})
    if twice:
        raise RecipeError(f"--algorithms names {', '.join(twice)} twice; name each algorithm, with its changes, once.")
    return found


def _contender(text: str) -> Contender:
    name, *changes = text.split(":")
    length = EMD_OF_LENGTH.fullmatch(name.lower())
    own = ("algorithm=EMD", f"algorithm.chain.length={length[1]}") if length else (f"algorithm={name}",)
    override(Numbers(), own)  # says which names there are
    for change in changes:
        if "=" not in change:
            raise RecipeError(f"--algorithms {text}: {change!r} is no path=value, as in sid:algorithm.alpha=1.")
    return Contender(text, (*own, *changes))


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
