"""What a run tells of itself while it trains: metrics, health and alarms in metrics.jsonl, and on the terminal."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from pplemd.distillation import Distillation
from pplemd.evaluation import GLANCE, glance
from pplemd.learning import Alarm, EMState, HealthCheck, Recipe, Watcher, alarms
from pplemd.metrics import AbstractEvaluation
from pplemd.runs.portrait import portrait
from pplemd.storage.folder import MetricsFile, RunFolder, finite
from pplemd.viewing.narration import AbstractTask
from pplemd.viewing.pictures import save_png

HEALTH = 2**32 - 1  # folded into the run's key: no step has this number, so that training never uses these keys
QUICKLY = {"xla_backend_optimization_level": 0}  # compiled once for a few calls: compiling takes longer than they do


def shown(recipe: Recipe) -> tuple[str, ...]:
    """The figures that matter most while a run is under way; acceptance only where a kernel may refuse."""
    adjusted = () if recipe.chain.kernel.wanted_acceptance is None else ("acceptance",)
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
        self._lines = MetricsFile(folder.metrics)
        self._history: list[dict[str, Any]] = []
        self._told: set[str] = set()
        self._latest: dict[str, float] = {}
        self._check = HealthCheck(work.step)
        self._measure = None if evaluation is None else evaluation.prepare()
        self._count = GLANCE if evaluation is None else min(GLANCE, evaluation.count)

    def watcher(self) -> Watcher:
        """For the loop."""
        return Watcher(self._task.to, self.report, self.picture, self._say, self.begin, self.inspect)

    def begin(self, step: int) -> None:
        """Go on after a step: what was written after it is dropped, what was told before is not told again."""
        self._history = self._lines.keep_until(step)
        self._told = {name for line in self._history for name in line.get("alarm", ())}
        for line in self._history:
            self._remember(line)

    def inspect(self, step: int, state: EMState) -> dict[str, float]:
        """Figures of health, and of samples where there is an evaluation."""
        key_health, key_samples = jax.random.split(jax.random.fold_in(jax.random.fold_in(self._work.key, HEALTH), step))
        figures = {name: float(value) for name, value in _checked(self._check, state, key_health).items()}
        if self._measure is None:
            return figures
        return figures | glance(self._work.distilled(state), self._measure, key_samples, self._count)

    def report(self, step: int, figures: dict[str, float]) -> None:
        """Write a line, with the alarms that it raises; say those that are new."""
        line = finite({"step": step, **figures})
        self._history.append(line)
        raised = alarms(self._history, self._work.step.recipe)
        if raised:
            line["alarm"] = [alarm.name for alarm in raised]
        self._lines.append(step, {name: value for name, value in line.items() if name != "step"})
        for alarm in raised:
            if alarm.name not in self._told:
                self._told.add(alarm.name)
                self._say(worded(alarm, step))
        self._remember(line)
        self._task.show(self._latest)

    def picture(self, step: int, state: EMState) -> None:
        """Draw the averaged generator's samples."""
        save_png(self._folder.samples, portrait(self._work.distilled(state)))

    def _remember(self, line: dict[str, Any]) -> None:
        self._latest.update({name: value for name, value in line.items() if isinstance(value, float)})


def worded(alarm: Alarm, step: int) -> str:
    """An alarm in two lines: what was found and why, and what to do."""
    name = alarm.name.replace("_", " ")
    return f"ALARM at step {step}, {name}: {alarm.found}: {alarm.cause}.\n  repair: {alarm.repair}."


@eqx.filter_jit(compiler_options=QUICKLY)  # type: ignore[call-overload]  # only its own options are typed
def _checked(check: HealthCheck, state: EMState, key):
    return check(state, key)
