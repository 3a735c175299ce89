"""What a run writes and shows while it trains: metrics, health and alarms in metrics.jsonl, pictures, the terminal."""

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from pplemd.keys import named
from pplemd.learning import Onlookers, Step, TrainState, Watcher
from pplemd.learning.algorithm import Figures
from pplemd.plotting.samples import save_png
from pplemd.report.reporter import AbstractProgress, AbstractReporter
from pplemd.runs.journal import Journal
from pplemd.storage.compiled import read_fast
from pplemd.storage.folder import RunFolder
from pplemd.tasks.base import Work

QUICKLY = {"xla_backend_optimization_level": 0}  # compiled once for a few calls: compiling takes longer than they do


class Watch:
    """Follows one training.

    All that it writes depends on the state, the run's key and what metrics.jsonl holds already: a run that goes on from
    a checkpoint writes what it would have written.

    Args:
        work: what is trained.
        folder: the run.
        reporter: says an alarm when it is first raised.
        progress: shows the newest figures.
    """

    def __init__(self, work: Work, folder: RunFolder, reporter: AbstractReporter, progress: AbstractProgress):
        self._work, self._folder, self._progress = work, folder, progress
        self._onlookers, self._say = Onlookers(reporter.say), reporter.say
        self._check = eqx.filter_jit(_health, compiler_options={**QUICKLY, **read_fast()})  # type: ignore[call-overload]

    def watcher(self) -> Watcher:
        """For the loop."""
        work, progress = self._work, self._progress
        alarms = work.step.algorithm.alarms
        journal = Journal(self._folder, self._say, progress, lambda lines: alarms(work.training, lines, work.rows))
        return Watcher(
            progress.to, journal.report, self.picture, self._say, journal.begin, self.inspect, progress.phase
        )

    def inspect(self, step: int, state: TrainState) -> dict[str, float]:
        """Figures of health, of samples where there is an evaluation, and at the end those of the algorithm's own."""
        key_health, key_samples = jax.random.split(named(self._work.key, "health", step))
        look, nothing = self._onlookers.look, dict[str, float]()
        figures = look("health check", step, self._healthy, state, key_health, otherwise=nothing)
        if self._work.glance is not None:
            self._progress.phase("evaluation")
            result = self._work.result(state)
            figures = figures | look("evaluation", step, self._work.glance, result, key_samples, otherwise=nothing)
        if step == self._work.training.steps:
            algorithm, context = self._work.step.algorithm, self._work.step.context
            last = (context, state, self._work.key)
            figures = figures | look("conclusion", step, algorithm.conclusion, *last, otherwise=nothing)
        return figures | self._onlookers.failed()

    def picture(self, step: int, state: TrainState) -> None:
        """Draw what the averaged network makes, where there is something to see."""
        picture = self._work.picture(self._work.result(state))
        if picture is not None:
            save_png(self._folder.samples, picture)

    def _healthy(self, state: TrainState, key: PRNGKeyArray) -> dict[str, float]:
        return {name: float(value) for name, value in self._check(self._work.step, state, key).items()}


def _health(step: Step, state: TrainState, key: PRNGKeyArray) -> Figures:
    return step.algorithm.health(step.context, state, key)
