"""Alarms that were raised, with cause and repair, and where each run's figures of health stand."""

from collections.abc import Sequence
from typing import Any

from pplemd.report.glossary import meaning
from pplemd.report.numbers import number
from pplemd.report.page_parts import Cell, Table
from pplemd.report.subject import Subject

WATCHED = ("score_lag", "score_gap", "noise_norm", "latent_norm", "noise_chi2", "latents_chi2", "acceptance",
           "divergences", "skipped", "run_finite")  # fmt: skip


def health(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Alarms, a column for each run, then the newest figures of all."""
    alarms = [{"subject": one, "raised": _alarms(one)} for one in subjects if one.run_record.lines]
    return {"alarms": alarms, "newest": _newest(subjects)} if alarms else {}


def _alarms(subject: Subject) -> list[dict[str, Any]]:
    """Each alarm with where it was raised, and its words where they are known."""
    first, count = _raised(subject)
    words = {alarm.name: alarm for alarm in subject.report_data.alarms}
    return [
        {
            "name": name.replace("_", " "),
            "where": f" at step {step:,}" + ("" if count[name] == 1 else f", in {count[name]:,} lines"),
            "words": words.get(name),
        }
        for name, step in first.items()
    ]


def _raised(subject: Subject) -> tuple[dict[str, int], dict[str, int]]:
    """The step at which each alarm was first raised, and by how many lines."""
    first: dict[str, int] = {}
    count: dict[str, int] = {}
    for line in subject.run_record.lines:
        for name in dict.fromkeys(line.alarms):
            first.setdefault(name, line.step)
            count[name] = count.get(name, 0) + 1
    return first, count


def _newest(subjects: Sequence[Subject]) -> Table:
    """Where the figures of health stand, and how they are read."""
    names = [name for name in WATCHED if any(subject.newest(name) is not None for subject in subjects)]
    rows: list[list[str | Cell]] = [
        [
            meaning(name).title,
            *(number(subject.newest(name)) for subject in subjects),
            Cell(meaning(name).says, small=True),
        ]
        for name in names
    ]
    return Table(["newest", *(subjects if len(subjects) > 1 else [""]), "read as"], rows)
