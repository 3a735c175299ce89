"""The head of the page: which runs, how far, and their most important figures."""

from collections.abc import Sequence

from pplemd.report.glossary import UNIMPORTANT, figure_title
from pplemd.report.layout import listed, named
from pplemd.report.markup import Element, element, words
from pplemd.report.numbers import number, value
from pplemd.report.subject import Subject
from pplemd.storage.run_reader import dig

TILES = 4


def overview(subjects: Sequence[Subject]) -> Element:
    """Title, a card for each run, the notes."""
    title = subjects[0].name if len(subjects) == 1 else f"{len(subjects)} runs"
    cards = element("div", {"class": "columns cards"}, *(_card(subject) for subject in subjects))
    return element("header", {"id": "top"}, words("p", "pplemd report", "kicker"), words("h1", title), cards)


def _card(subject: Subject) -> Element:
    config = subject.remains.config
    facts = [
        subject.state,
        f"seed {value(dig(config, int, 'recipe', 'seed'))}",
        _device(dig(config, str, "environment", "device")),
        _started(dig(config, str, "started")),
    ]
    return element(
        "div", {"class": "column"},
        element("h3", {}, named(subject), words("small", _kind(subject))),
        element("p", {"class": "facts"}, *(words("span", fact) for fact in facts if fact)),
        _tiles(subject),
        listed(subject.notes, "notes"),
    )  # fmt: skip


def _kind(subject: Subject) -> str:
    model = dig(subject.remains.config, str, "model", "name")
    return f"{'fit' if subject.of_fit else 'distillation'}{f' of {model}' if model else ''}"


def _device(text: str | None) -> str | None:
    """JAX's platform and kind of device, once where they are the same."""
    parts = dict.fromkeys((text or "").split(": "))
    return ": ".join(parts) or None


def _started(text: str | None) -> str | None:
    return None if text is None else f"started {text[:16].replace('T', ' ')} UTC"


def _tiles(subject: Subject) -> Element | None:
    tiles = [_fitted(subject)] if subject.of_fit else [_figure(subject, name) for name in _important(subject)]
    alarms = len({name for line in subject.remains.lines for name in line.alarms})
    if subject.remains.lines:
        tiles.append(_tile("Alarms", str(alarms), "of different kinds" if alarms else "none was raised"))
    return element("div", {"class": "tiles"}, *tiles) if tiles else None


def _important(subject: Subject) -> list[str]:
    return [name for name in subject.scored if name not in UNIMPORTANT][: TILES - 1] + [
        name for name in subject.scored if name == "seconds_per_1000"
    ]


def _figure(subject: Subject, name: str) -> Element:
    """A figure of the student, the teacher's and that of real samples below it."""
    student, teacher, floor = (subject.score(who, name) for who in ("student", "teacher", "floor"))
    compared = [("teacher", teacher), ("real", floor)]
    return _tile(
        figure_title(name), number(student), " · ".join(f"{w} {number(x)}" for w, x in compared if x is not None)
    )


def _fitted(subject: Subject) -> Element:
    found = subject.remains.evaluation
    estimate = dig(found, float, "log_marginal", "value")
    return _tile("log p(y)", number(estimate), "" if estimate is None else subject.marginal_error)


def _tile(title: str, figure: str, below: str) -> Element:
    return element("div", {"class": "tile"}, words("span", title), words("b", figure), words("small", below))
