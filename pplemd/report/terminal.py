"""A run on a terminal: how it stands, how far it is, its newest figures with their curves in a line, its alarms."""

import dataclasses
import enum
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pplemd.report.glossary import clean, figure_title, grouped, meaning, number
from pplemd.report.subject import ReportData, Subject
from pplemd.storage.folder import RunFolder, RunRecord, dig, is_written_to, read_run, snapshots

RECENT = 20  # marks that a pace is taken from: it follows the machine's load
LONG_SECONDS = 1800.0  # of judging without an end: then it was stopped


class State(enum.StrEnum):
    """What a run is doing."""

    waiting = "getting ready"
    training = "training"
    evaluation_seed = "judging"
    finished = "finished"
    stopped = "stopped"

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self in (State.finished, State.stopped)


@dataclasses.dataclass(frozen=True)
class Mark:
    """When a step was known to be done.

    Attributes:
        step: the step.
        seconds: since the epoch.
    """

    step: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Standing:
    """A run at one moment.

    Attributes:
        remains: what its folder holds.
        state: what it is doing.
        marks: steps with their times, in order.
    """

    run_record: RunRecord
    state: State
    marks: tuple[Mark, ...]

    @property
    def pace(self) -> float | None:
        """Steps in a second; None where fewer than two times are known."""
        recent = self.marks[-RECENT:]
        if len(recent) < 2 or recent[-1].seconds <= recent[0].seconds:
            return None
        return (recent[-1].step - recent[0].step) / (recent[-1].seconds - recent[0].seconds)

    @property
    def left(self) -> float | None:
        """Seconds to the end of training; None where they cannot be known."""
        steps, pace = self.run_record.steps, self.pace
        if steps is None or not pace or self.state is not State.training:
            return None
        return max(steps - self.run_record.step, 0) / pace


def look(path: Path | str, before: Standing | None = None) -> Standing:
    """Look at a run.

    Args:
        path: its folder.
        before: what was seen of it last, for its pace.

    Raises:
        CheckpointError: where the folder is no run.
    """
    run_record = read_run(path)
    marks = _saved(run_record) if before is None else before.marks
    newest = Mark(run_record.step, _written(RunFolder(path).metrics))
    if run_record.lines and (not marks or newest.step > marks[-1].step):
        marks = (*marks, newest)
    if marks and run_record.step < marks[-1].step:  # resumed from before what was seen
        marks = ()
    return Standing(run_record, _state(run_record), marks)


def _state(run_record: RunRecord) -> State:
    folder, steps = RunFolder(run_record.path), run_record.steps
    if run_record.lines and steps is not None and run_record.step >= steps:
        recent = time.time() - _written(folder.metrics) < LONG_SECONDS
        if run_record.judged or (run_record.evaluation and not recent):
            return State.finished
        return State.evaluation_seed if recent else State.stopped
    if is_written_to(folder.checkpoints) is False:
        return State.stopped
    return State.training if run_record.lines else State.waiting


def _saved(run_record: RunRecord) -> tuple[Mark, ...]:
    """The times of its checkpoints."""
    try:
        found = snapshots(RunFolder(run_record.path).checkpoints)
    except OSError:
        return ()
    marks = sorted((Mark(int(path.name), _written(path)) for path in found), key=lambda mark: mark.step)
    return tuple(mark for mark in marks if mark.step <= run_record.step)


def _written(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


BLOCKS, LETTERS = "▁▂▃▄▅▆▇█", "_.-=+*#@"  # of rising height; the second where a terminal knows ASCII alone
WIDTH = 32  # characters of a curve
ROWS = 18  # figures
FIRST = ("pull", "log_joint", "score_lag", "score_gap", "gradient_norm")  # what is looked at first
COLOURS = {State.finished: "green", State.stopped: "yellow"}


def shown(standing: Standing, *, rows: int = ROWS, plain: bool = False) -> RenderableType:
    """What is to be seen of a run now.

    Args:
        standing: the run.
        rows: how many figures at most.
        plain: whether curves are drawn by ASCII letters.
    """
    subject = _subject(standing)
    parts: list[RenderableType] = [_head(subject, standing), _bar(standing)]
    if subject.names:
        parts.append(_figures(subject, rows, LETTERS if plain else BLOCKS))
    parts += [
        Text(f"alarm: {name.replace('_', ' ')}, from step {step:,}", "red")
        for name, step in first_alarms(subject.run_record)
    ]
    parts += [Text(clean(note), "yellow") for note in subject.notes if subject.run_record.lines]
    parts += [Text(clean(line), "red") for line in _unconverged(subject.run_record)]
    if _is_scored(standing, subject):
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
        for heading in ("", "real", "teacher", "student"):
            table.add_column(heading, justify="right" if heading else "left")
        for name in subject.scored:
            figures = (number(subject.score(who, name)) for who in ("floor", "teacher", "student"))
            table.add_row(Text(clean(figure_title(name))), *figures)
        parts.append(table)
        parts += [Text(line, "yellow") for line in subject.shortfalls]
    return Group(*parts)


def figures(standing: Standing) -> dict[str, Any]:
    """The same for programs: each figure's newest finite value, alarms with their first steps, what it ended with."""
    subject = _subject(standing)
    finished = _is_scored(standing, subject)
    return {
        "state": standing.state.value,
        "step": standing.run_record.step,
        "steps": standing.run_record.steps,
        "steps_per_second": standing.pace,
        "seconds_left": standing.left,
        "figures": {name: subject.newest(name) for name in sorted(subject.names)},
        "alarms": dict(first_alarms(standing.run_record)),
        "notes": list(subject.notes),
        "evaluation": standing.run_record.evaluation if finished else None,
        "falls_short": list(subject.shortfalls) if finished else [],
    }


def line(standing: Standing) -> str:
    """The same in a line, for logs."""
    subject = _subject(standing)
    figures = [(name, subject.newest(name)) for name in FIRST]
    line = "  ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in figures if value is not None)
    return f"{clean(subject.name)}: {standing.state}, {_done(standing)}  {line}".rstrip()


def _subject(standing: Standing) -> Subject:
    """A run as the report knows it, without what would have to be drawn."""
    return Subject(standing.run_record.path.name, 0, standing.run_record, ReportData(), (), standing.run_record.notes)


def _is_scored(standing: Standing, subject: Subject) -> bool:
    """Whether it has ended with an evaluation."""
    return standing.state is State.finished and bool(subject.scored)


def spark(values: Sequence[float], letters: str = BLOCKS, width: int = WIDTH, log: bool = False) -> str:
    """A curve in a line of text: newest at the right, the mean of each stretch; a blank where nothing is finite."""
    known = (
        [math.log(v) if log and v > 0 else v for v in values] if log and min(values, default=0) > 0 else list(values)
    )
    stretches = [known[len(known) * i // width : len(known) * (i + 1) // width] for i in range(width)]
    if len(known) < width:
        stretches = [[value] for value in known]
    means = [_mean(stretch) for stretch in stretches]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    top = len(letters) - 1
    return "".join(
        letters[round(top * (mean - low) / (high - low)) if high > low else top // 2] if math.isfinite(mean) else " "
        for mean in means
    )


def clock(seconds: float) -> str:
    """A time: 0:42, 12:05, 3:00:00."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _head(subject: Subject, standing: Standing) -> Text:
    head = Text(clean(subject.name), "bold")
    head.append(f"  {standing.state}", COLOURS.get(standing.state, "cyan"))
    if standing.state is State.waiting:
        head.append("  teacher, compilation: no figures yet", "dim")
    return head


def _bar(standing: Standing) -> Table:
    steps, step = standing.run_record.steps, standing.run_record.step
    row = Table.grid(padding=(0, 2))
    row.add_row(ProgressBar(total=steps or 1, completed=min(step, steps or 1), width=30), _done(standing))
    return row


def _done(standing: Standing) -> str:
    """Steps of steps, pace and time left, as far as they are known."""
    steps = standing.run_record.steps
    line = [f"{standing.run_record.step:,} of {steps:,}" if steps is not None else f"step {standing.run_record.step:,}"]
    if standing.pace is not None and not standing.state.ended:
        line.append(f"{standing.pace:.3g} steps a second")
    if standing.left is not None:
        line.append(f"{clock(standing.left)} left")
    return ", ".join(line)


def _figures(subject: Subject, rows: int, letters: str) -> Table:
    """The newest of each figure with its curve; those that are looked at first come first."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, overflow="crop")
    names = [name for members in grouped(subject.names).values() for name in members]
    names.sort(key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    for name in names[:rows]:
        curve = spark(subject.series(name)[1], letters, log=meaning(name).log)
        table.add_row(Text(clean(meaning(name).title)), number(subject.newest(name)), Text(curve, "cyan"))
    if len(names) > rows:
        table.add_row(Text(f"and {len(names) - rows} more", "dim"))
    return table


def first_alarms(run_record: RunRecord) -> list[tuple[str, int]]:
    """The alarms of a run, each with the step at which it was first raised."""
    found: dict[str, int] = {}
    for one in run_record.lines:
        for name in one.alarms:
            found.setdefault(clean(name), one.step)
    return list(found.items())


def _unconverged(run_record: RunRecord) -> list[str]:
    """Why a fit that was judged has not converged, and what to do."""
    found = dig(run_record.evaluation, dict, "convergence") if run_record.judged else None
    if dig(found, bool, "converged") is not False:
        return []
    return [f"not converged: {dig(found, str, 'found')}", f"repair: {dig(found, str, 'repair')}"]
