"""How good runs are, their curves and their health: figures beside teacher and real samples, alarms with repair."""

import math
from collections.abc import Sequence
from typing import Any

from pplemd.plotting.charts import Curve, Interval, colour, curves, intervals
from pplemd.report.glossary import SAYS, figure_title, grouped, meaning, more_is_better, number, value
from pplemd.report.page_parts import Cell, Chart, Table, chart
from pplemd.report.subject import Subject
from pplemd.storage.folder import as_number, dig

MOST_ROWS, MOST_ELEMENTS, MOST_INTERVALS = 60, 20, 40
ROWS = {"floor": "real", "teacher": "teacher", "student": "student"}
SPREAD = 2.0  # s.d. on both sides: about 95 % of a normal distribution


def figures(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Tables of what the runs were judged by."""
    distilled = [subject for subject in subjects if subject.scored]
    fits = [subject for subject in subjects if subject.of_fit and subject.run_record.evaluation]
    if not distilled and not fits:
        return {}
    return {**_scores(distilled), **_fits(fits)}


def _scores(subjects: Sequence[Subject]) -> dict[str, Any]:
    if not subjects:
        return {"scores": None}
    names = list(dict.fromkeys(name for subject in subjects for name in subject.scored))
    alone = len(subjects) == 1
    headings = ["", *(ROWS.values() if alone else subjects)]
    rows = [_alone(subjects[0], name) if alone else _row(subjects, name) for name in names]
    counts = {dig(subject.run_record.evaluation, int, "count") for subject in subjects} - {None}
    of = f"Of {' or '.join(f'{count:,}' for count in sorted(filter(None, counts)))} samples. " if counts else ""
    read = "The best student is bold; below it its teacher and real samples, judged alike."
    read = "Real samples against other real samples are the floor." if alone else read
    short = [one if alone else f"{subject.name}: {one}" for subject in subjects for one in subject.shortfalls]
    return {"scores": Table(headings, rows, "figures"), "of": of + read, "shortfalls": short}


def _title(name: str) -> Cell:
    better = more_is_better(name)
    arrow = {True: " ↑", False: " ↓", None: ""}[better]
    return Cell(figure_title(name) + arrow, hint={True: "more is better", False: "less is better", None: None}[better])


def _alone(subject: Subject, name: str) -> list[str | Cell]:
    return [_title(name), *(number(subject.score(who, name)) for who in ROWS)]


def _row(subjects: Sequence[Subject], name: str) -> list[str | Cell]:
    found = [subject.score("student", name) for subject in subjects]
    known, better = [one for one in found if one is not None], more_is_better(name)
    best = None if better is None or len(known) < 2 else (max if better else min)(known)
    return [_title(name), *(_cell(subject, name, one, best) for subject, one in zip(subjects, found, strict=True))]


def _cell(subject: Subject, name: str, student: float | None, best: float | None) -> Cell:
    others = [(ROWS[who], subject.score(who, name)) for who in ("teacher", "floor")]
    below = tuple(f"{who} {number(x)}" for who, x in others if x is not None)
    return Cell(number(student), bold=student is not None and student == best, stacked=True, below=below)


def _fits(subjects: Sequence[Subject]) -> dict[str, Any]:
    parameters = {subject.number: dig(subject.run_record.evaluation, dict, "parameters") or {} for subject in subjects}
    names = list(dict.fromkeys(str(name) for found in parameters.values() for name in found))[:MOST_ROWS]
    rows = [
        ["log p(y)", *(_marginal(subject) for subject in subjects)],
        ["converged", *(_converged(subject) for subject in subjects)],
        *([name, *(_parameter(parameters[one.number].get(name)) for one in subjects)] for name in names),
    ]
    fits = [{"subject": one, "sites": _posterior(one), "charts": _intervals(one)} for one in subjects]
    return {"fits": fits, "parameters": Table(["", *subjects], rows, "figures")}


def _parameter(found: Any) -> str:
    if isinstance(found, dict):
        mean, sd = (number(dig(found, float, name)) for name in ("mean", "sd"))
        return f"array of {value(found.get('shape'))}: mean {mean}, s.d. {sd}"
    if isinstance(found, list):
        return ", ".join(_parameter(one) for one in found[:MOST_ELEMENTS])
    return number(as_number(found)) if isinstance(found, int | float) else value(found)


def _marginal(subject: Subject) -> str:
    found = {name: dig(subject.run_record.evaluation, float, "log_marginal", name) for name in ("value", "rows")}
    rows = "" if found["rows"] is None else f", mean of {number(found['rows'])} rows"
    return f"{number(found['value'])} {subject.marginal_error}{rows}"


def _converged(subject: Subject) -> str:
    """Whether parameters are estimates, and why."""
    found = dig(subject.run_record.evaluation, dict, "convergence") or {}
    converged = dig(found, bool, "converged")
    answer = {True: "yes", False: "NO: the parameters are no estimates", None: "not known"}[converged]
    return ": ".join(part for part in (answer, dig(found, str, "found")) if part)


def _posterior(subject: Subject) -> Table:
    """ArviZ's figures of the chains, a row for each site."""
    rows = []
    for row in _sites(subject):
        lam = dig(subject.run_record.evaluation, float, "centering", str(row.get("site")))
        names = ("r_hat", "ess_bulk", "ess_per_gradient", "divergences")
        rows.append([str(row.get("site")), number(lam), *(number(dig(row, float, name)) for name in names)])
    return Table(["site", "lambda", "R-hat", "ESS", "ESS per gradient", "divergences"], rows)


def _sites(subject: Subject) -> list[dict[str, Any]]:
    found = dig(subject.run_record.evaluation, list, "posterior") or []
    return [row for row in found if isinstance(row, dict)][:MOST_ROWS]


def _intervals(subject: Subject) -> list[Chart]:
    """Mean and two s.d. of every number of small sites."""
    shown = []
    for row in _sites(subject):
        means, sds = _flat(row.get("mean")), _flat(row.get("sd"))
        if means and len(means) == len(sds):
            names = (
                [str(row.get("site"))[:16]]
                if len(means) == 1
                else [f"{row.get('site')}"[:12] + f"[{i}]" for i in range(len(means))]
            )
            shown += [Interval(name, mean, SPREAD * sd) for name, mean, sd in zip(names, means, sds, strict=True)]
    if not shown:
        return []
    drawing = intervals("means of the latents", shown[:MOST_INTERVALS])
    return [chart(drawing, "Mean and two s.d.", "of the latents given the data")]


def _flat(found: Any) -> list[float]:
    """The numbers of a nested list; none where it is another thing, or holds many."""
    if isinstance(found, list):
        return [x for one in found[:MOST_INTERVALS] for x in _flat(one)]
    return [as_number(found)] if isinstance(found, int | float) else []


MOST = 60  # charts of one group


def progress(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """All curves by group."""
    groups = []
    for title, members in grouped(set().union(*(subject.names for subject in subjects))).items():
        level = [name for name in members if _level(name, subjects)]
        charts = [_drawn(name, subjects) for name in members[:MOST] if name not in level]
        values = [next(value for subject in subjects for value in subject.series(name)[1]) for name in level]
        constant = [f"{meaning(name).title} {number(value)}" for name, value in zip(level, values, strict=True)]
        always = f"Always the same: {', '.join(constant)}." if constant else ""
        groups.append({"title": title, "says": SAYS.get(title, ""), "charts": charts, "level": always})
    return groups


def _level(name: str, subjects: Sequence[Subject]) -> bool:
    """Whether a figure never changes: then a word is enough, and no chart is drawn."""
    shown = (name, *filter(None, (meaning(name).second,)))
    values = [value for one in shown for subject in subjects for value in subject.series(one)[1]]
    return len(values) > 1 and len(set(values)) == 1


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


WATCHED = ("score_lag", "score_gap", "noise_norm", "latent_norm", "noise_chi2", "latents_chi2", "acceptance",
           "divergences", "skipped", "run_finite")  # fmt: skip


def health(subjects: Sequence[Subject]) -> dict[str, Any]:
    """Alarms, a column for each run, then the newest figures of all."""
    alarms = [{"subject": one, "raised": _alarms(one)} for one in subjects if one.run_record.lines]
    return {"alarms": alarms, "newest": _newest(subjects)} if alarms else {}


def _alarms(subject: Subject) -> list[dict[str, Any]]:
    """Each alarm with where it was raised, and its words where they are known."""
    # the step at which each alarm was first raised, and by how many lines
    first: dict[str, int] = {}
    count: dict[str, int] = {}
    for line in subject.run_record.lines:
        for name in dict.fromkeys(line.alarms):
            first.setdefault(name, line.step)
            count[name] = count.get(name, 0) + 1
    words = {alarm.name: alarm for alarm in subject.report_data.alarms}
    return [
        {
            "name": name.replace("_", " "),
            "where": f" at step {step:,}" + ("" if count[name] == 1 else f", in {count[name]:,} lines"),
            "words": words.get(name),
        }
        for name, step in first.items()
    ]


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
