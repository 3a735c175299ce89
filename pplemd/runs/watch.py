"""What a run tells of itself while it trains: metrics, health and alarms in metrics.jsonl, and on the terminal."""

from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from pplemd.learning import EMState, HealthCheck, Onlookers, Recipe, Watcher, alarms
from pplemd.metrics import AbstractEvaluation
from pplemd.plotting.samples import save_png
from pplemd.report.reporter import AbstractTask
from pplemd.runs.journal import Journal
from pplemd.runs.portrait import portrait
from pplemd.storage.compiled import read_fast
from pplemd.storage.folder import RunFolder
from pplemd.tasks.distillation import Distillation
from pplemd.tasks.evaluation import GLANCE, glance

HEALTH = 2**32 - 1  # folded into the run's key: no step has this number, so that training never uses these keys
QUICKLY = {"xla_backend_optimization_level": 0}  # compiled once for a few calls: compiling takes longer than they do


def shown(recipe: Recipe) -> tuple[str, ...]:
    """The figures that matter most while a run is under way; acceptance only where a kernel may refuse."""
    refuses = recipe.method.chains and recipe.chain.kernel.wanted_acceptance is not None
    adjusted = ("acceptance",) if refuses else ()
    return ("pull", "score_lag", *adjusted, "run_recall", "run_modes")


class Watch:
    """Follows one training.

    All that it writes depends on the state, the run's key and what metrics.jsonl holds already: a run that goes on from
    a checkpoint writes what it would have written.

    Args:
        work: the distillation.
        evaluation: what the averaged generator is judged by on the way, or None.
        folder: the run.
        say: told of an alarm when it is first raised.
        task: shows the newest figures.
    """

    def __init__(
        self,
        work: Distillation,
        evaluation: AbstractEvaluation | None,
        folder: RunFolder,
        say: Callable[[str], None],
        task: AbstractTask,
    ):
        self._work, self._folder, self._say, self._task = work, folder, say, task
        self._journal = Journal(folder, say, task, lambda lines: alarms(lines, work.step.recipe))
        quickly = {**QUICKLY, **read_fast()}
        self._check = eqx.filter_jit(HealthCheck(work.step), compiler_options=quickly)  # type: ignore[call-overload]
        self._measure = None if evaluation is None else evaluation.prepare()
        self._onlookers = Onlookers(say)
        self._count = GLANCE if evaluation is None else min(GLANCE, evaluation.count)

    def watcher(self) -> Watcher:
        """For the loop."""
        journal = self._journal
        return Watcher(
            self._task.to, journal.report, self.picture, self._say, journal.begin, self.inspect, self._task.phase
        )

    def inspect(self, step: int, state: EMState) -> dict[str, float]:
        """Figures of health, and of samples where there is an evaluation."""
        key_health, key_samples = jax.random.split(jax.random.fold_in(jax.random.fold_in(self._work.key, HEALTH), step))
        look, nothing = self._onlookers.look, dict[str, float]()
        figures = look("health check", step, self._health, state, key_health, otherwise=nothing)
        if self._measure is not None:
            self._task.phase("evaluation")
            asked = self._work.distilled(state), self._measure, key_samples, self._count
            figures = figures | look("evaluation", step, glance, *asked, otherwise=nothing)
        return figures | self._onlookers.failed()

    def _health(self, state: EMState, key: PRNGKeyArray) -> dict[str, float]:
        return {name: float(value) for name, value in self._check(state, key).items()}

    def picture(self, step: int, state: EMState) -> None:
        """Draw the averaged generator's samples."""
        save_png(self._folder.samples, portrait(self._work.distilled(state)))
