"""From a plan and a ready teacher to a distilled generator."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.devices import ONE, Devices
from pplemd.dsl import Problem, Program
from pplemd.learning import (
    Adjustment,
    EMState,
    EMStep,
    Labels,
    Schedule,
    Watcher,
    Window,
    choice_key,
    first_window,
    fit,
)
from pplemd.storage.ahead import Ahead
from pplemd.storage.checkpoints import Checkpoints
from pplemd.tasks.double_precision import in_single
from pplemd.tasks.model import Plan, build_program, build_score_network
from pplemd.teachers import AbstractTeacher

# folded into the key of the program's start, beyond what a model file splits it into
ANCHOR, POOL = 2**31 - 1, 2**31 - 2


class Distilled(eqx.Module):
    """A one-step generator.

    Attributes:
        problem: the traced program.
        program: its trained networks.
        labels: the label prior, or None.
    """

    problem: Problem
    program: Program
    labels: Labels | None

    @in_single
    @eqx.filter_jit
    def sample(
        self, key: PRNGKeyArray, count: int, labels: Int[Array, " count"] | None = None
    ) -> Float[Array, "count ..."]:
        """Draw x, one network evaluation each.

        Args:
            key: a key.
            count: how many.
            labels: a class for each; drawn from the label prior by default.
        """
        key_labels, key_latents = jax.random.split(key)
        if labels is None and self.labels is not None:
            labels = self.labels.draw(key_labels, count)

        def one(latent_key, label):
            u = self.problem.draw(latent_key, self.program, label)
            return self.problem.generate(self.program, u, label)

        return jax.vmap(one)(jax.random.split(key_latents, count), labels)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """A plan with a ready teacher: everything that the loop needs.

    Attributes:
        plan: the traced model.
        step: the EM step.
        initial: builds the state before the first step.
        key: the run's key.
    """

    plan: Plan
    step: EMStep
    initial: Callable[[], EMState]
    key: PRNGKeyArray

    def distilled(self, state: EMState) -> Distilled:
        """The generator of a state: the averaged program."""
        return distilled(self.plan, state)

    def adjust(self, step: int, state: EMState) -> tuple[EMState, dict[str, float]]:
        """The state with the coordinates of x_sigma that its chains choose."""
        return self.step.choose(choice_key(self.key, step), state)


def distilled(plan: Plan, state: EMState) -> Distilled:
    """The generator of a plan's state: the averaged program."""
    return Distilled(plan.problem, state.average, plan.labels)


def distillation(
    plan: Plan,
    teacher: AbstractTeacher,
    advance: Callable[[float], None] = lambda share: None,
    again: Callable[[], AbstractTeacher] | None = None,
) -> Distillation:
    """Put a plan and its ready teacher together, under the model's recipe; draw what its anchor and its method need.

    Args:
        plan: the traced model.
        teacher: its teacher, ready.
        advance: told which share of the anchor's pairs, or else of the method's samples, is drawn.
        again: gives the teacher once more, for the networks that start as copies of it; by default the teacher is
            kept beside the one that the step asks, whose weights may be narrower.
    """
    recipe = plan.model.recipe
    source = again or (lambda: teacher)
    teacher = recipe.compute.of(teacher)
    key_program, key_score, key_run = jax.random.split(jax.random.key(recipe.seed), 3)
    step = EMStep(plan.problem, recipe.compute.kept(teacher), recipe, plan.labels)
    if recipe.anchor is not None:
        key_pairs = jax.random.fold_in(key_program, ANCHOR)
        pairs = recipe.anchor.pairs(key_pairs, teacher, plan.problem, plan.labels, advance)
        step = dataclasses.replace(step, pairs=pairs)
    if recipe.method.prelude() is not None:
        pool = recipe.method.prepare(jax.random.fold_in(key_program, POOL), teacher, plan.labels, advance)
        step = dataclasses.replace(step, pool=pool)

    def initial() -> EMState:
        whole = recipe.compute.of(source())
        program = build_program(plan.model, whole, key_program)
        score = build_score_network(plan.model, whole, key_score)
        return step.init(program, score)

    return Distillation(plan, step, initial, key_run)


def state_shapes(plan: Plan) -> tuple[EMStep, EMState]:
    """The EM step of a plan and the state before it, as shapes; the teacher need not be ready."""

    def first(teacher: AbstractTeacher) -> tuple[EMStep, EMState]:
        work = distillation(plan, teacher)
        return work.step, work.initial()

    return eqx.filter_eval_shape(first, plan.teacher)


def first_shapes(plan: Plan) -> Window:
    """What a checkpoint of a plan's distillation holds, as shapes; the teacher need not be ready."""

    def first(teacher: AbstractTeacher) -> Window:
        work = distillation(plan, teacher)
        return first_window(work.step, work.initial(), work.key)

    return eqx.filter_eval_shape(first, plan.teacher)


def run(
    work: Distillation,
    watcher: Watcher,
    checkpoints: Checkpoints | None = None,
    devices: Devices = ONE,
    ahead: Ahead | None = None,
) -> EMState:
    """Distil to the end of the recipe, from the newest checkpoint where there is one; on several devices, or one."""
    recipe = work.step.recipe
    choosing = recipe.choosing if work.step.sampling.chooses else None
    adjustment = None if choosing is None else Adjustment(choosing.every, work.adjust)
    schedule = Schedule(
        recipe.steps, recipe.log_every, recipe.sample_every, recipe.checkpoint_every, recipe.patience, adjustment
    )
    return fit(work.step, work.initial(), work.key, schedule, watcher, checkpoints, devices, ahead)
