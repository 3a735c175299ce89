"""What a run writes and shows while it trains: metrics, health and alarms in metrics.jsonl, pictures, the terminal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray
from PIL import Image

from pplemd.keys import named
from pplemd.learning import Alarm, Onlookers, Step, TrainState, Watcher
from pplemd.learning.algorithm import Figures
from pplemd.plotting.samples import save_png
from pplemd.report.progress import AbstractProgress, AbstractReporter
from pplemd.report.tensorboard import AbstractBoard
from pplemd.storage.compiled import read_fast
from pplemd.storage.folder import MetricsFile, RunFolder, finite
from pplemd.tasks.base import Work

Judge = Callable[[Sequence[Mapping[str, Any]]], Sequence[Alarm]]


class Journal:
    """Writes what a training reports, and says each alarm when it is first raised.

    All that it writes depends on its arguments and on what metrics.jsonl holds already.

    Args:
        folder: the run.
        say: called with an alarm when it is first raised.
        progress: shows the newest figures.
        judge: alarms that the lines so far give reason for.
    """

    def __init__(
        self, folder: RunFolder, say: Callable[[str], None], progress: AbstractProgress, judge: Judge = lambda lines: ()
    ):
        self._say, self._progress, self._judge = say, progress, judge
        self._lines = MetricsFile(folder.metrics)
        self._history: list[dict[str, Any]] = []
        self._said: set[str] = set()
        self._latest: dict[str, float] = {}

    def begin(self, step: int) -> None:
        """Go on after a step: what was written after it is dropped, what was reported before is not reported again."""
        self._history = self._lines.keep_until(step)
        self._said = {name for line in self._history for name in line.get("alarm", ())}
        for line in self._history:
            self._remember(line)

    def report(self, step: int, figures: dict[str, float]) -> None:
        """Write a line, with the alarms that it raises; say those that are new."""
        line = finite({"step": step, **figures})
        self._history.append(line)
        raised = self._judge(self._history)
        if raised:
            line["alarm"] = [alarm.name for alarm in raised]
        self._lines.append(step, {name: value for name, value in line.items() if name != "step"})
        for alarm in raised:
            if alarm.name not in self._said:
                self._said.add(alarm.name)
                self._say(worded(alarm, step))
        self._remember(line)
        self._progress.show(self._latest)

    def _remember(self, line: dict[str, Any]) -> None:
        self._latest.update({name: value for name, value in line.items() if isinstance(value, float)})


def worded(alarm: Alarm, step: int) -> str:
    """An alarm in two lines: what was found and why, and what to do."""
    name = alarm.name.replace("_", " ")
    return f"ALARM at step {step}, {name}: {alarm.found}: {alarm.cause}.\n  repair: {alarm.repair}."


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


@contextmanager
def with_board(watcher: Watcher, board: AbstractBoard, samples: Path) -> Iterator[Watcher]:
    """The same watcher, which passes on to the board too; it is closed however the training ends.

    Args:
        watcher: what the loop calls.
        board: gets its figures and pictures.
        samples: the picture that the watcher draws.
    """
    onlookers, reached = Onlookers(watcher.note), 0

    def begin(step: int) -> None:
        nonlocal reached
        reached = step
        watcher.begin(step)
        board.begin(step)

    def report(step: int, figures: dict[str, float]) -> None:
        nonlocal reached
        reached = step
        look(step, board.figures, step, figures)
        watcher.report(step, figures | onlookers.failed())

    def picture(step: int, state: Any) -> None:
        watcher.picture(step, state)
        if samples.is_file():  # a fit may generate nothing
            with Image.open(samples) as image:
                look(step, board.picture, step, image)

    def look(step: int, call: Callable[..., None], *values: Any) -> None:
        onlookers.look("TensorBoard file", step, call, *values, otherwise=None)

    try:
        yield Watcher(watcher.advance, report, picture, watcher.note, begin, watcher.inspect, watcher.phase)
    finally:
        look(reached, board.close)
