"""Curves of metrics.jsonl, a chart for each figure, the runs over each other."""

import math
from collections.abc import Sequence

from pplemd.report.charts import Curve, curves
from pplemd.report.glossary import SAYS, grouped, meaning
from pplemd.report.layout import chart, grid, named, section
from pplemd.report.markup import Element, element, words
from pplemd.report.numbers import number
from pplemd.report.plot import colour
from pplemd.report.subject import Subject

MOST = 60  # charts of one group


def progress(subjects: Sequence[Subject]) -> Element | None:
    """All curves by group."""
    names = set().union(*(subject.names for subject in subjects))
    if not names:
        return None
    blocks: list[Element | None] = []
    for title, members in grouped(names).items():
        level = [name for name in members if _level(name, subjects)]
        blocks.append(element("h3", {}, title, words("small", SAYS.get(title, ""))))
        blocks.append(grid(drawn(name, subjects) for name in members[:MOST] if name not in level))
        blocks.append(_told(level, subjects))
    legend = element("p", {"class": "legend"}, *map(named, subjects)) if len(subjects) > 1 else None
    return section("curves", "Curves", legend, *blocks)


def _level(name: str, subjects: Sequence[Subject]) -> bool:
    """Whether a figure never changes: that is told in a word, and no chart."""
    shown = (name, *filter(None, (meaning(name).second,)))
    values = [value for one in shown for subject in subjects for value in subject.series(one)[1]]
    return len(values) > 1 and len(set(values)) == 1


def _told(names: Sequence[str], subjects: Sequence[Subject]) -> Element | None:
    values = [next(value for subject in subjects for value in subject.series(name)[1]) for name in names]
    told = [f"{meaning(name).title} {number(value)}" for name, value in zip(names, values, strict=True)]
    return words("p", f"Always the same: {', '.join(told)}.", "says") if told else None


def drawn(name: str, subjects: Sequence[Subject]) -> Element | None:
    """The chart of one figure, with its newest values beside the title."""
    of = meaning(name)
    shown = [_curve(subject, name) for subject in subjects if name in subject.names]
    if not shown:
        return None
    if of.second is not None:
        shown += [_curve(subject, of.second, dashed=True) for subject in subjects if of.second in subject.names]
    log = of.log and all(value > 0 for one in shown for value in one.y if math.isfinite(value))
    newest = [_newest(subject, name) for subject in subjects]
    drawing = curves(f"{of.title} over steps", shown, log=(False, log), guide=of.guide)
    return chart(drawing, of.title, of.says, *newest)


def _curve(subject: Subject, name: str, dashed: bool = False) -> Curve:
    steps, values = subject.series(name)
    label = f"{subject.name}, {meaning(name).title}" if dashed else subject.name
    return Curve(label, subject.number, [float(step) for step in steps], values, dashed)


def _newest(subject: Subject, name: str) -> Element | None:
    value = subject.newest(name)
    return None if value is None else words("span", number(value), colour(subject.number))
