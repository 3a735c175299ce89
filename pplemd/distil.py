"""From a model to a distilled generator: teach, distil, sample."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.cache import cached_arrays
from pplemd.checkpoint import Checkpoints
from pplemd.dsl import Problem, Program
from pplemd.learning import EMState, EMStep, Labels, Recipe, Schedule, Taught, Watcher, fit, teach_step
from pplemd.model import Plan, build_program, build_score_network
from pplemd.override import as_data
from pplemd.teachers import AbstractTeacher

VERSION = 1  # of the teacher's training; raised when a change of code would train another teacher from the same recipe


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


def taught_digest(taught: Taught) -> str:
    """SHA-256 of all that a taught teacher depends on: recipe, data, network structure, code version."""
    structure = str(eqx.filter_eval_shape(taught.build))
    parts = [str(VERSION), json.dumps(as_data(taught.recipe), sort_keys=True), taught.data.digest(), structure]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def ready_teacher(teacher: AbstractTeacher | Taught, watcher: Watcher) -> AbstractTeacher:
    """A teacher that can be asked: as it is, from the cache, or taught now and cached.

    Args:
        teacher: a teacher, or one that is declared by `em.teach`.
        watcher: told how the training goes.
    """
    if not isinstance(teacher, Taught):
        return teacher
    arrays, static = eqx.partition(eqx.filter_eval_shape(teacher.build), _is_shape)
    leaves, structure = jax.tree.flatten(arrays)
    stored = cached_arrays(f"teacher-{taught_digest(teacher)}", lambda: _teach(teacher, watcher))
    found = [jnp.asarray(stored[str(i)], leaf.dtype) for i, leaf in enumerate(leaves)]
    return eqx.combine(jax.tree.unflatten(structure, found), static)


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _teach(taught: Taught, watcher: Watcher) -> dict[str, np.ndarray]:
    step = teach_step(taught)
    recipe = taught.recipe
    never = recipe.steps + 1
    schedule = Schedule(recipe.steps, log_every=50, sample_every=never, checkpoint_every=never, patience=20)
    key = jax.random.fold_in(jax.random.key(recipe.seed), 1)
    state = fit(step, step.init(eqx.filter_jit(taught.build)()), key, schedule, watcher)
    return {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(eqx.filter(state.average, eqx.is_array)))}


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
        return Distilled(self.plan.problem, state.average, self.plan.labels)


def distillation(plan: Plan, teacher: AbstractTeacher, recipe: Recipe) -> Distillation:
    """Put a plan, its ready teacher and a recipe together."""
    key_program, key_score, key_run = jax.random.split(jax.random.key(recipe.seed), 3)
    step = EMStep(plan.problem, teacher, recipe, plan.labels)

    def initial() -> EMState:
        program = build_program(plan.model, teacher, key_program)
        score = build_score_network(plan.model, teacher, key_score)
        return step.init(*_unshared((program, score)))

    return Distillation(plan, step, initial, key_run)


def _unshared(tree: Any) -> Any:
    """A copy of every array: what is donated to the step must not be the teacher's own."""
    return jax.tree.map(lambda leaf: jnp.copy(leaf) if eqx.is_array(leaf) else leaf, tree)


def run(work: Distillation, watcher: Watcher, checkpoints: Checkpoints | None = None) -> EMState:
    """Distil to the end of the recipe, from the newest checkpoint where there is one."""
    recipe = work.step.recipe
    schedule = Schedule(
        recipe.steps, recipe.log_every, recipe.sample_every, recipe.checkpoint_every, recipe.patience
    )
    return fit(work.step, work.initial(), work.key, schedule, watcher, checkpoints)

