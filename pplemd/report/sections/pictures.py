"""Samples: of the student and of its teacher, between latents, before and after the E-step."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pplemd.plotting.charts import Cloud, histogram, plane
from pplemd.report.page_parts import Chart, Picture, chart, opened, picture, tiled
from pplemd.report.subject import ReportData, Subject

MOST_NUMBERS = 16  # of a posterior's, each with a histogram
COLUMNS, PAIRS = 10, 4  # images of a row, and pairs of images
STUDENT, TEACHER = "s1", "s2"  # orange and purple, as in the pictures of a run's folder
Card = Chart | Picture | str
Key = tuple[str, str]  # the class of its colour, a word


def pictures(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """A column for each run that has something to show."""
    found = [_of(subject) for subject in subjects]
    return [one for one in found if one["cards"] or one["moved"] or one["reliance"]]


def _of(subject: Subject) -> dict[str, Any]:
    shown = subject.report_data
    cards = [*_named(shown), *(_images(shown) if shown.pictured else _points(shown))]
    if not cards:
        cards += _kept(subject, "samples", "Samples", "as the run drew them last")
    if not shown.corrections:
        cards += _kept(subject, "correction", "Before and after the E-step", "of pplemd diagnose")
    reliance = f"Corrected by importance weights: {shown.reliance}" if shown.reliance else ""
    # what the E-step does to samples, for each noise level
    found: list[Card] = []
    for name, (before, after) in shown.corrections.items():
        if shown.pictured:
            both = np.stack([before, after], axis=1).reshape(-1, *before.shape[1:])
            columns = 2 * max(1, min(PAIRS, len(before) // 3))
            pairs = picture(tiled(both, columns), f"E-step, {name}", "pairs: g(z), then where the chain pulls it")
            found.append(pairs)
        else:
            found.append(_ways(name, _flat(before), _flat(after)))
    return {"subject": subject, "cards": cards, "moved": found, "reliance": reliance}


def _kept(subject: Subject, name: str, title: str, says: str) -> list[Card]:
    """A picture of the run's folder."""
    content = subject.run_record.pictures.get(name)
    if content is None:
        return []
    try:
        return [picture(opened(content), title, says)]
    except ValueError as error:
        return [f"{name}.png cannot be shown: {error}."]


def _images(shown: ReportData) -> list[Card]:
    found: list[Card] = []
    columns = shown.classes if 1 < shown.classes <= 2 * COLUMNS else COLUMNS
    by = ", a class a column" if shown.classes > 1 else ""
    if shown.samples is not None:
        found.append(picture(tiled(shown.samples, columns), "Student", f"one step, step {shown.step or 0:,}{by}"))
    if shown.reference is not None:
        found.append(picture(tiled(shown.reference, columns), "Teacher", f"by its own sampler{by}"))
    if shown.between is not None:
        paths, steps = shown.between.shape[:2]
        flat = shown.between.reshape(paths * steps, *shown.shape)
        found.append(
            picture(tiled(flat, steps), "From one latent to another", "a row a path: u = cos(a) u0 + sin(a) u1")
        )
    return found


def _points(shown: ReportData) -> list[Card]:
    if shown.samples is None:
        return []
    x = _flat(shown.samples)
    reference = None if shown.reference is None else _flat(shown.reference)
    keys: list[Key] = [(STUDENT, "student")]
    keys += [] if reference is None else [(TEACHER, "teacher")]
    if x.shape[1] == 1:
        sets = {STUDENT: x[:, 0]} | ({} if reference is None else {TEACHER: reference[:, 0]})
        return [chart(histogram("samples", sets), "Samples", _of_step(shown), keys)]
    found: list[Card] = [_cloud(x, reference, keys, shown)]
    if shown.between is not None:
        found.append(_paths(x, shown.between))
    return found


def _of_step(shown: ReportData) -> str:
    return f"one step each, step {shown.step or 0:,}"


def _cloud(x: np.ndarray, reference: np.ndarray | None, keys: list[Key], shown: ReportData) -> Chart:
    under = [] if reference is None else [Cloud(TEACHER, reference[:, :2])]
    seen = x[:, :2] if reference is None else reference[:, :2]
    more = "" if x.shape[1] == 2 else f"; the first 2 of {x.shape[1]} dimensions"
    drawing = plane("samples", [*under, Cloud(STUDENT, x[:, :2])], seen)
    return chart(drawing, "Samples", _of_step(shown) + more, keys)


def _paths(x: np.ndarray, between: np.ndarray) -> Chart:
    flat = between.reshape(*between.shape[:2], -1)[:, :, :2]
    lines = [Cloud(f"s{number % 8}", path, joined=True) for number, path in enumerate(flat)]
    drawing = plane("paths between samples", [Cloud("faint", x[:, :2]), *lines], x[:, :2])
    return chart(drawing, "From one latent to another", "paths of u = cos(a) u0 + sin(a) u1")


def _ways(name: str, before: np.ndarray, after: np.ndarray) -> Chart:
    """Points with their way, or numbers as two histograms."""
    if before.shape[1] == 1:
        sets = {STUDENT: before[:, 0], TEACHER: after[:, 0]}
        keys = [(STUDENT, "before"), (TEACHER, "after")]
        return chart(histogram(f"before and after the E-step, {name}", sets), f"E-step, {name}", "", keys)
    a, b = before[:, :2], after[:, :2]
    gap = np.full((len(a), 1, 2), math.nan)
    joined = np.concatenate([np.stack([a, b], axis=1), gap], axis=1).reshape(-1, 2)  # pair after pair, with gaps
    clouds = [Cloud(f"moved {TEACHER}", joined, joined=True), Cloud(STUDENT, a)]
    keys = [(STUDENT, "sample"), (TEACHER, "its way")]
    drawing = plane(f"before and after the E-step, {name}", clouds, np.concatenate([a, b]))
    return chart(drawing, f"E-step, {name}", "from g(z) to where the chain pulls it", keys)


def _named(shown: ReportData) -> list[Card]:
    """Histograms of a posterior's numbers, as drawn and corrected by importance weights."""
    found: list[Card] = []
    for name, x in shown.named.items():
        flat = _flat(x)
        if len(found) + flat.shape[1] > MOST_NUMBERS:
            continue
        corrected = _flat(shown.corrected[name]) if name in shown.corrected else None
        for column in range(flat.shape[1]):
            sets = {STUDENT: flat[:, column]} | ({} if corrected is None else {TEACHER: corrected[:, column]})
            keys = [(STUDENT, "student")]
            keys += [] if corrected is None else [(TEACHER, "corrected")]
            title = name if flat.shape[1] == 1 else f"{name}[{column}]"
            found.append(chart(histogram(title, sets), title, "", keys))
    return found


def _flat(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, float).reshape(len(x), -1)
