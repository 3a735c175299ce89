"""The lines of metrics.jsonl as they are written: what a resumed run drops, the newest figures, alarms once told."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pplemd.learning import Alarm
from pplemd.report.reporter import AbstractProgress
from pplemd.storage.folder import MetricsFile, RunFolder, finite

Judge = Callable[[Sequence[Mapping[str, Any]]], Sequence[Alarm]]


class Journal:
    """Writes what a training reports, and says each alarm when it is first raised.

    All that it writes depends on its arguments and on what metrics.jsonl holds already.

    Args:
        folder: the run.
        say: told of an alarm when it is first raised.
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
        """Go on after a step: what was written after it is dropped, what was told before is not told again."""
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
