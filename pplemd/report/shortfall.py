"""What is missing at the end: of the teacher beside real samples, of the student beside its teacher."""

import dataclasses
import math
from collections.abc import Callable, Mapping

from pplemd.report.glossary import figure_title, more_is_better
from pplemd.report.numbers import number

Score = Callable[[str, str], float | None]
FLOOR, TEACHER, STUDENT = "floor", "teacher", "student"


@dataclasses.dataclass(frozen=True)
class Limit:
    """How far off a figure may be: it falls short where it is beyond both bounds.

    Attributes:
        times: this multiple of what it is held against.
        apart: so much worse than that.
        share: whether it is a share of the judged samples, whose sampling noise widens `apart`.
        signed: whether it is noise about 0 where the laws are one, so that sizes are compared.
    """

    times: float = 1.0
    apart: float = 0.0
    share: bool = False
    signed: bool = False

    def passes(self, name: str, own: float, others: tuple[float, ...], count: int | None) -> bool:
        """Whether a figure is near enough to the worst of the others."""
        if more_is_better(name):
            its = min(others)
            return own >= self.times * its or own >= its - self.apart - self._noise(its, count)
        its = max(map(abs, others) if self.signed else others)
        return own <= self.times * its or own <= its + self.apart

    def _noise(self, share: float, count: int | None) -> float:
        """Three s.d. of the difference of two shares of `count` samples each; 0 where their number is not known."""
        if not self.share or count is None or count < 1:
            return 0.0
        return 3 * math.sqrt(2 * max(share * (1 - share), 0) / count)


SHARE = Limit(0.6)  # of regions that few neighbours span: as the alarm of collapse has it
READ = Limit(1.0, 0.1, share=True)  # one sample in ten more is misread, or lies between the modes
NATS = Limit(1.0, 0.1)  # a lost class of ten costs log(10 / 9) = .105
ERROR = Limit(2.0, 0.1)  # in s.d. of the reference; of mmd, whose kernel is 1 at most
LIMITS = {
    "precision": Limit(0.75),
    **dict.fromkeys(("recall", "coverage", "class_recall"), SHARE),
    **dict.fromkeys(("class_accuracy", "sharp"), READ),
    "modes": Limit(),
    **dict.fromkeys(("class_kl", "weight_kl"), NATS),
    "frechet": Limit(2.0),  # squared; README's MNIST is at 1.45, and another draw moves that of digits by a twelfth
    "sliced_w2": Limit(2.0),  # between modes its noise falls as n^(-1/4): draws of one law reach 1.5 of the floor
    "kid": Limit(4.0, signed=True),  # of one law, one time in fifty beyond
    **dict.fromkeys(("mean_error", "sd_error", "mmd"), ERROR),
    "c2st": Limit(1.0, 0.1),  # 1 / 2 for laws that are one
}
AGAINST_REAL = {  # without a teacher between: kid is noise about 0 there, which gives no scale
    **{name: limit for name, limit in LIMITS.items() if name != "kid"},
    "frechet": Limit(5.0, 1.0),  # guidance is far from the floor by design: MNIST's teacher by 9 times, and by .6
    "sliced_w2": Limit(3.0),
}
LOST = ("recall", "coverage", "class_recall", "modes", "class_kl", "weight_kl")
TEACH = (
    "The student learns from nothing else. Teach it longer or on more data (--set teacher.steps=N), give it a larger "
    "network, guide it less where it is guided, or bring a better one."
)
WHY = "The run's alarms and curves tell why."
SPREAD = "Against lost diversity try an anchor (em.EMD(anchor=em.Anchor())) or --set algorithm.score.count=3."
LONGER = "Try more steps (--steps N), a smaller generator.learning_rate, or a larger batch."


def shortfalls(score: Score, count: int | None = None) -> tuple[str, ...]:
    """Sentences of what falls short and what to try, with what comes first; none where nothing does.

    Recall, coverage and modes tell of lost diversity, which a distance can hide; a distance tells of what neither of
    them sees. Only what is far off is named, by `LIMITS`: shares below .6 of the other's (precision .75), one sample in
    ten more misread, divergences a tenth of a nat above it, a mode that is not found, twice the Frechet or sliced
    Wasserstein distance. A student is held against the worse of its teacher and real samples, so that the noise of one
    draw alone is never the measure. The teacher, and a student in figures that its teacher lacks, are held against real
    samples, where distances have more room (`BESIDE_REAL`).

    Args:
        score: a figure of floor, teacher or student, by who and name; None where there is none.
        count: samples judged, for the noise of shares; None where it is not known.
    """
    sentences = []
    poor = _lacks(score, TEACHER, FLOOR, AGAINST_REAL, count)
    if poor:
        sentences.append(f"The teacher falls short of real samples: {'; '.join(poor.values())}. {TEACH}")
    lost = _lacks(score, STUDENT, TEACHER, LIMITS, count)
    untaught = {name: limit for name, limit in AGAINST_REAL.items() if score(TEACHER, name) is None}
    for lacks, other in ((lost, "its teacher"), (_lacks(score, STUDENT, FLOOR, untaught, count), "real samples")):
        if lacks:
            advice = SPREAD if set(lacks) & set(LOST) else LONGER
            sentences.append(f"The student falls short of {other}: {'; '.join(lacks.values())}. {WHY} {advice}")
    return tuple(sentences)


def _lacks(score: Score, who: str, other: str, limits: Mapping[str, Limit], count: int | None) -> dict[str, str]:
    """Figures of one beside the other's, where they are far off, by name."""
    found = {}
    for name, limit in limits.items():
        own, its, real = (score(one, name) for one in (who, other, FLOOR))
        known = tuple(one for one in (its, real) if one is not None and not math.isnan(one))
        if own is None or math.isnan(own) or its is None or not known:
            continue
        if name == "mean_error" and score(who, "sd_error") is None:  # in units of the data, which sliced W2 judges
            continue
        if not limit.passes(name, own, known, count):
            found[name] = f"{figure_title(name)} {number(own)} beside {number(its)}"
    return found
