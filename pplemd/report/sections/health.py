"""Alarms that were raised, with cause and repair, and where each run's figures of health stand."""

from collections.abc import Sequence

from pplemd.report.glossary import meaning
from pplemd.report.layout import beside, section
from pplemd.report.markup import Child, Element, element, table, words
from pplemd.report.numbers import number
from pplemd.report.subject import Subject, Told

WATCHED = ("score_lag", "score_gap", "noise_norm", "latent_norm", "noise_chi2", "latents_chi2", "acceptance",
           "divergences", "skipped", "run_finite")  # fmt: skip


def health(subjects: Sequence[Subject]) -> Element | None:
    """A column for each run: alarms, then its newest figures."""
    found = beside([(subject, _of(subject)) for subject in subjects])
    return None if found is None else section("health", "Health", found)


def _of(subject: Subject) -> list[Child]:
    if not subject.remains.lines:
        return []
    first, count = _raised(subject)
    words_of = {told.name: told for told in subject.exhibits.alarms}
    lines = len(subject.remains.lines)
    if not first:
        verdict = words("p", f"No alarm in {lines:,} lines of metrics.jsonl.", "good")
        return [verdict, _newest(subject)]
    alarms = [_alarm(name, first[name], count[name], words_of.get(name)) for name in first]
    return [element("div", {"class": "alarms"}, *alarms), _newest(subject)]


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


def _newest(subject: Subject) -> Element | None:
    rows: list[list[Child]] = [
        [meaning(name).title, number(subject.newest(name)), words("small", meaning(name).says)]
        for name in WATCHED
        if subject.newest(name) is not None
    ]
    return table(["newest", "value", "read as"], rows) if rows else None
