"""Alarms that were raised, with cause and repair, and where each run's figures of health stand."""

from collections.abc import Sequence

from pplemd.report.glossary import meaning
from pplemd.report.layout import beside, named, section
from pplemd.report.markup import Child, Element, element, table, words
from pplemd.report.numbers import number
from pplemd.report.subject import Subject, Told

WATCHED = ("score_lag", "score_gap", "noise_norm", "latent_norm", "noise_chi2", "latents_chi2", "acceptance",
           "divergences", "skipped", "run_finite")  # fmt: skip


def health(subjects: Sequence[Subject]) -> Element | None:
    """Alarms, a column for each run, then the newest figures of all."""
    found = beside([(subject, _of(subject)) for subject in subjects])
    return None if found is None else section("health", "Health", found, _newest(subjects))


def _of(subject: Subject) -> list[Child]:
    if not subject.remains.lines:
        return []
    first, count = _raised(subject)
    if not first:
        return [words("p", f"No alarm in {len(subject.remains.lines):,} lines of metrics.jsonl.", "good")]
    words_of = {told.name: told for told in subject.exhibits.alarms}
    alarms = [_alarm(name, first[name], count[name], words_of.get(name)) for name in first]
    return [element("div", {"class": "alarms"}, *alarms)]


def _raised(subject: Subject) -> tuple[dict[str, int], dict[str, int]]:
    """The step at which each alarm was first raised, and by how many lines."""
    first: dict[str, int] = {}
    count: dict[str, int] = {}
    for line in subject.remains.lines:
        for name in dict.fromkeys(line.alarms):
            first.setdefault(name, line.step)
            count[name] = count.get(name, 0) + 1
    return first, count


def _alarm(name: str, step: int, count: int, told: Told | None) -> Element:
    again = "" if count == 1 else f", in {count:,} lines"
    said = (
        []
        if told is None
        else [words("p", f"{told.found}: {told.cause}."), words("p", f"Repair: {told.repair}.", "says")]
    )
    return element("div", {"class": "alarm"}, words("b", name.replace("_", " ")), f" at step {step:,}{again}", *said)


def _newest(subjects: Sequence[Subject]) -> Element | None:
    """Where the figures of health stand, and how they are read."""
    names = [name for name in WATCHED if any(subject.newest(name) is not None for subject in subjects)]
    heads: list[Child] = ["newest", *(map(named, subjects) if len(subjects) > 1 else [""]), "read as"]
    rows: list[list[Child]] = [
        [
            meaning(name).title,
            *(number(subject.newest(name)) for subject in subjects),
            words("small", meaning(name).says),
        ]
        for name in names
    ]
    return table(heads, rows) if rows else None
