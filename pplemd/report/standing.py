"""How a run stands that another process may be making: its state, its pace and the time left."""

import dataclasses
import enum
import os
import time
from pathlib import Path

from pplemd.storage.folder import RunFolder, snapshots
from pplemd.storage.locks import is_written_to
from pplemd.storage.run_reader import RunRecord, read_run

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
        """Seconds to the end of training; None where they cannot be told."""
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
