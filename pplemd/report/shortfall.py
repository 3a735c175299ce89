"""What is missing at the end: of the teacher beside real samples, of the student beside its teacher."""

from collections.abc import Callable

from pplemd.report.glossary import figure_title
from pplemd.report.numbers import number

LEAST = 0.6  # of the other's share: as the alarm of collapse has it
NATS = 0.1  # above the other's: a lost class of ten costs log(10 / 9) = .105
SHARES = ("precision", "recall", "coverage", "class_recall", "class_accuracy", "sharp")
DIVERGENCES = ("class_kl", "weight_kl")

Score = Callable[[str, str], float | None]


def shortfalls(score: Score) -> tuple[str, ...]:
    """Sentences of what falls short, with what comes first; none where nothing does.

    Recall, coverage and modes tell of lost diversity, which a Frechet distance can hide. Only what is far off is named:
    shares below .6 of the other's, divergences a tenth of a nat above it, a mode that is not found.

    Args:
        score: a figure of floor, teacher or student, by who and name; None where there is none.
    """
    told = []
    for who, other, head, tail in (
        ("teacher", "floor", "The teacher falls short of real samples", "The student learns from nothing else."),
        ("student", "teacher", "The student falls short of its teacher", "The run's alarms and curves tell why."),
    ):
        lacks = _lacks(score, who, other)
        if lacks:
            told.append(f"{head}: {'; '.join(lacks)}. {tail}")
    return tuple(told)


def _lacks(score: Score, who: str, other: str) -> list[str]:
    """Figures of one beside the other's, where they are far off."""
    found = []
    for name, short in (
        *((name, _below) for name in SHARES),
        ("modes", lambda own, its: own < its),
        *((name, lambda own, its: own > its + NATS) for name in DIVERGENCES),
    ):
        own, its = score(who, name), score(other, name)
        if own is not None and its is not None and short(own, its):
            found.append(f"{figure_title(name)} {number(own)} beside {number(its)}")
    return found


def _below(own: float, its: float) -> bool:
    return own < LEAST * its
