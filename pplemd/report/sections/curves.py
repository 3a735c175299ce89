"""Curves of metrics.jsonl, a chart for each figure, the runs over each other."""

import math
from collections.abc import Sequence
from typing import Any

from pplemd.plotting.charts import Curve, colour, curves
from pplemd.report.glossary import SAYS, grouped, meaning
from pplemd.report.numbers import number
from pplemd.report.page_parts import Chart, chart
from pplemd.report.subject import Subject

MOST = 60  # charts of one group


def progress(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """All curves by group."""
    groups = []
    for title, members in grouped(set().union(*(subject.names for subject in subjects))).items():
        level = [name for name in members if _level(name, subjects)]
        charts = [_drawn(name, subjects) for name in members[:MOST] if name not in level]
        groups.append(
            {"title": title, "says": SAYS.get(title, ""), "charts": charts, "level": _always(level, subjects)}
        )
    return groups


def _level(name: str, subjects: Sequence[Subject]) -> bool:
    """Whether a figure never changes: that is told in a word, and no chart."""
    shown = (name, *filter(None, (meaning(name).second,)))
    values = [value for one in shown for subject in subjects for value in subject.series(one)[1]]
    return len(values) > 1 and len(set(values)) == 1


def _always(names: Sequence[str], subjects: Sequence[Subject]) -> str:
    """What never changes, in a sentence."""
    values = [next(value for subject in subjects for value in subject.series(name)[1]) for name in names]
    constant = [f"{meaning(name).title} {number(value)}" for name, value in zip(names, values, strict=True)]
    return f"Always the same: {', '.join(constant)}." if constant else ""


def _drawn(name: str, subjects: Sequence[Subject]) -> Chart:
    """The chart of one figure, with its newest values beside the title."""
    of = meaning(name)
    shown = [_curve(subject, name) for subject in subjects if name in subject.names]
    if of.second is not None:
        shown += [_curve(subject, of.second, dashed=True) for subject in subjects if of.second in subject.names]
    log = of.log and all(value > 0 for one in shown for value in one.y if math.isfinite(value))
    newest = [(colour(subject.number), subject.newest(name)) for subject in subjects]
    drawing = curves(f"{of.title} over steps", shown, log=(False, log), guide=of.guide)
    return chart(drawing, of.title, of.says, [(kind, number(value)) for kind, value in newest if value is not None])


def _curve(subject: Subject, name: str, dashed: bool = False) -> Curve:
    steps, values = subject.series(name)
    label = f"{subject.name}, {meaning(name).title}" if dashed else subject.name
    return Curve(label, subject.number, [float(step) for step in steps], values, dashed)
