"""What a report is about: runs as their folders hold them, and what was drawn from their checkpoints."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from pplemd.diagnosis import Chains, load_chains
from pplemd.report.glossary import number, shortfalls
from pplemd.storage.folder import RunRecord, dig, read_run


@dataclasses.dataclass(frozen=True)
class RaisedAlarm:
    """An alarm in words.

    Attributes:
        name: of the rule.
        step: when it was first raised.
        found: the figures.
        cause: what usually does this.
        repair: what to change.
    """

    name: str
    step: int
    found: str
    cause: str
    repair: str


@dataclasses.dataclass(frozen=True)
class ReportData:
    """What was drawn from a run's checkpoint, as arrays; what could not be is empty.

    Attributes:
        step: the checkpoint's.
        shape: of one sample; empty where the program generates nothing.
        plan: the plan as plain data (`inspection.describe`).
        samples: of the student, (n, *shape).
        reference: of its teacher, (m, *shape).
        classes: of how many classes the samples are, one after the other; 1 where there are none.
        between: samples at steps from one latent to another, (paths, steps, *shape).
        corrections: samples before and after the E-step, by noise level in words.
        named: samples of a posterior in its model's own names, site -> (n, *shape).
        corrected: the same, resampled by importance weights.
        reliance: whether the correction can be relied on, in a sentence.
        by_sigma: further figures over sigma, title -> (sigmas, values).
        alarms: in words.
        notes: what could not be drawn, and why.
    """

    step: int | None = None
    shape: tuple[int, ...] = ()
    plan: Mapping[str, Any] | None = None
    samples: Num[np.ndarray, "n ..."] | None = None
    reference: Num[np.ndarray, "m ..."] | None = None
    classes: int = 1
    between: Num[np.ndarray, "paths steps ..."] | None = None
    corrections: Mapping[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)
    named: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    corrected: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    reliance: str = ""
    by_sigma: Mapping[str, tuple[Sequence[float], Sequence[float]]] = dataclasses.field(default_factory=dict)
    alarms: tuple[RaisedAlarm, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def pictured(self) -> bool:
        """Whether samples are images."""
        return len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[2] in (1, 3))


@dataclasses.dataclass(frozen=True)
class Subject:
    """One run of a report.

    Attributes:
        name: what it is called there.
        number: its place among the runs, which gives its colour.
        remains: what its folder holds.
        exhibits: what was drawn.
        chains: its long chains by sigma, where it was diagnosed.
        notes: what is missing, a sentence each.
    """

    name: str
    number: int
    run_record: RunRecord
    report_data: ReportData
    chains: tuple[Chains, ...]
    notes: tuple[str, ...]

    @property
    def of_fit(self) -> bool:
        """Whether it is a fit, which has no teacher."""
        return "data" in self.run_record.config and "teacher" not in self.run_record.config

    @property
    def names(self) -> set[str]:
        """Figures in its metrics.jsonl that are finite somewhere."""
        return {name for line in self.run_record.lines for name, value in line.figures.items() if math.isfinite(value)}

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """A figure along its steps, where it was written."""
        kept = [(line.step, line.figures[name]) for line in self.run_record.lines if name in line.figures]
        return [step for step, _ in kept], [value for _, value in kept]

    def newest(self, name: str) -> float | None:
        """A figure's newest finite value."""
        return next((value for value in reversed(self.series(name)[1]) if math.isfinite(value)), None)

    def score(self, who: str, name: str) -> float | None:
        """A figure of evaluation.json, of floor, teacher or student."""
        return dig(self.run_record.evaluation, float, who, name)

    @property
    def marginal_error(self) -> str:
        """The error of a fit's log p(y), or why it has none."""
        error = dig(self.run_record.evaluation, float, "log_marginal", "error")
        doubt = dig(self.run_record.evaluation, str, "log_marginal", "doubt")
        return f"(no error: {doubt or 'not known'})" if error is None else f"+- {number(error)}"

    @property
    def shortfalls(self) -> tuple[str, ...]:
        """What falls short by its evaluation, a sentence each."""
        return shortfalls(self.score, dig(self.run_record.evaluation, int, "count"))

    @property
    def scored(self) -> list[str]:
        """The names of its evaluation's figures, in order."""
        evaluation = self.run_record.evaluation
        rows = [dig(evaluation, dict, who) or {} for who in ("student", "teacher", "floor")]
        return list(dict.fromkeys(name for row in rows for name in row if isinstance(name, str)))[:MOST_FIGURES]

    @property
    def state(self) -> str:
        """How far it is, in words."""
        step, steps = self.run_record.step, self.run_record.steps
        if not self.run_record.lines:
            return "nothing trained yet"
        if steps is None:
            return f"at step {step:,}"
        if step < steps:
            return f"at step {step:,} of {steps:,}, under way or stopped"
        return f"finished, {steps:,} steps" + ("" if self.run_record.evaluation else ", not judged yet")


MOST_FIGURES = 40
MOST_NUMBERS = 40_000_000  # of chains that are read for their pictures: 300 MB


def subjects(paths: Sequence[Path], report_data: Sequence[ReportData]) -> list[Subject]:
    """The runs of a report, in order; each is called as its folder, or by more of its path where that is not enough.

    Raises:
        CheckpointError: where a folder is no run.
    """
    names = short_names(paths)
    return [_subject(*each) for each in zip(names, range(len(paths)), paths, report_data, strict=True)]


def _subject(name: str, number: int, path: Path, report_data: ReportData) -> Subject:
    run_record = read_run(path)
    chains: tuple[Chains, ...] = ()
    notes = [*run_record.notes, *report_data.notes]
    if run_record.chains is not None:
        try:
            chains = load_chains(run_record.chains, MOST_NUMBERS)
        except Exception as error:  # h5py and xarray raise many kinds of a damaged file
            notes.append(f"chains.nc cannot be read ({type(error).__name__}).")
    return Subject(name, number, run_record, report_data, chains, tuple(notes))


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as tell them apart."""
    whole = [path.absolute().parts for path in paths]
    for count in range(1, max(map(len, whole), default=1) + 1):
        names = ["/".join(parts[-count:]) for parts in whole]
        if len(set(names)) == len(set(whole)):
            return names
    return ["/".join(parts) for parts in whole]
