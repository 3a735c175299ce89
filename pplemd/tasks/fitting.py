"""From a traced fit to a fitted program: Monte Carlo EM in the same loop that distils."""

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pplemd.devices import ONE, Devices
from pplemd.dsl import Centering, Problem, Program
from pplemd.errors import ProgramError
from pplemd.learning import (
    Adjustment,
    FitRecipe,
    FitState,
    FitStep,
    Schedule,
    Watcher,
    Window,
    choice_key,
    first_window,
    fit,
)
from pplemd.storage.ahead import Ahead
from pplemd.storage.checkpoints import Checkpoints
from pplemd.tasks.fits import FitPlan, build_observing


class Fitted(eqx.Module):
    """A fitted program.

    Attributes:
        problem: the traced program; of one row of its plate where the recipe takes rows.
        program: its trained networks and parameters, averaged.
        centering: the coordinates that its latents were moved in at the end.
    """

    problem: Problem
    program: Program
    centering: Centering

    @property
    def by_row(self) -> bool:
        """Whether the program was traced for one row of its plate."""
        return any(plate.rows < plate.size for plate in self.problem.plates)

    def parameters(self) -> dict[str, np.ndarray]:
        """What is trained, by its path in the program."""
        leaves = jax.tree_util.tree_leaves_with_path(self.problem.split(self.program)[0])
        return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}

    @eqx.filter_jit
    def sample(self, key: PRNGKeyArray, count: int) -> Float[Array, "count ..."]:
        """Draw x from the program's own latents: what it generates, given nothing.

        Raises:
            ProgramError: where the program generates nothing; `simulate` draws its data.
        """
        of = self._any_row()
        return jax.vmap(lambda k: of.generate(self.program, of.draw(k, self.program)))(jax.random.split(key, count))

    @eqx.filter_jit
    def simulate(self, key: PRNGKeyArray, count: int, but: tuple[str, ...] = ()) -> dict[str, Array]:
        """Draw data from the program's own latents, by observation: the prior predictive law.

        Args:
            key: a key.
            count: how many times.
            but: observations that are left out.

        Raises:
            ProgramError: a law that cannot be drawn from.
        """
        return jax.vmap(lambda one: self._simulated(one, but))(jax.random.split(key, count))

    def unsimulated(self) -> dict[str, str]:
        """Observations whose data cannot be simulated, and why."""
        names, found = [one.name for one in self.problem.observed], {}
        for name in names:
            try:
                others = [other for other in names if other != name]
                jax.eval_shape(functools.partial(self._simulated, but=others), jax.random.key(0))
            except ProgramError as error:
                found[name] = str(error)
        return found

    def _simulated(self, key: PRNGKeyArray, but: Collection[str]) -> dict[str, Array]:
        of, (key_latents, key_data) = self._any_row(), jax.random.split(key)
        return of.simulate(key_data, self.program, of.draw(key_latents, self.program), but=but)

    def _any_row(self) -> Problem:
        """The problem with a row to look at: its own data are not asked for."""
        return self.problem.at({plate.name: jnp.arange(plate.rows) for plate in self.problem.plates})


@dataclasses.dataclass(frozen=True)
class Fitting:
    """A traced fit with everything that the loop needs.

    Attributes:
        plan: the traced fit.
        step: the step of Monte Carlo EM.
        initial: builds the state before the first step.
        key: the run's key.
    """

    plan: FitPlan
    step: FitStep
    initial: Callable[[], FitState]
    key: PRNGKeyArray

    def fitted(self, state: FitState) -> Fitted:
        """The fitted program of a state."""
        return fitted(self.plan, state)

    def adjust(self, step: int, state: FitState) -> tuple[FitState, dict[str, float]]:
        """The state in coordinates that its chains choose."""
        return self.step.choose(choice_key(self.key, step), state)


def rows_of(problem: Problem) -> int:
    """How many rows a likelihood has that is told for one of them; 1 where it is told for all data."""
    return next((plate.size for plate in problem.plates if plate.rows < plate.size), 1)


def fitted(plan: FitPlan, state: FitState) -> Fitted:
    """The fitted program of a plan's state: the averaged one."""
    return Fitted(plan.problem, state.average, state.centering)


def fitting(plan: FitPlan) -> Fitting:
    """Put a traced fit together under its recipe."""
    recipe = plan.fit.recipe
    key_program, key_run = jax.random.split(jax.random.key(recipe.seed))
    step = FitStep(plan.problem, recipe)
    return Fitting(plan, step, lambda: step.init(build_observing(plan.fit, key_program)), key_run)


def first_fit_shapes(plan: FitPlan) -> Window:
    """What a checkpoint of a fit holds, as shapes."""

    def first() -> Window:
        work = fitting(plan)
        return first_window(work.step, work.initial(), work.key)

    return eqx.filter_eval_shape(first)


def run_fit(
    work: Fitting,
    watcher: Watcher,
    checkpoints: Checkpoints | None = None,
    devices: Devices = ONE,
    ahead: Ahead | None = None,
) -> Any:
    """Fit to the end of the recipe, from the newest checkpoint where there is one; on several devices, or one."""
    recipe: FitRecipe = work.step.recipe
    choosing = recipe.choosing
    adjustment = None if choosing is None else Adjustment(choosing.every, work.adjust)
    schedule = Schedule(
        recipe.steps, recipe.log_every, recipe.sample_every, recipe.checkpoint_every, recipe.patience, adjustment
    )
    return fit(work.step, work.initial(), work.key, schedule, watcher, checkpoints, devices, ahead)
