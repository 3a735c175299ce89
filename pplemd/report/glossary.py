"""What the figures of a run are called and say, as words; and what is missing at the end."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Meaning:
    """A figure of metrics.jsonl.

    Attributes:
        title: for people.
        says: what to read off it, in a phrase.
        log: whether it is drawn on a logarithmic axis.
        guide: a value that it is compared with.
        second: another figure drawn into the same chart.
    """

    title: str
    says: str = ""
    log: bool = False
    guide: float | None = None
    second: str | None = None


GROUPS: dict[str, dict[str, Meaning]] = {
    "Learning": {
        "pull": Meaning("Pull", "mean square of how far the E-step moves x: falls as the student learns", log=True),
        "log_joint": Meaning("Log joint density", "of data and latents: rises, then is level"),
        "gain": Meaning(
            "Left to climb", "nats that one more M-step would gain at the end: 0 where a fit has converged"
        ),
        "score_loss": Meaning("Score loss", "denoising loss of the student's score network"),
        "anchor": Meaning("Anchor loss", "distance from the teacher's own map of noise to samples", log=True),
        "gradient_norm": Meaning("Gradient norm", "of the generator, before clipping", log=True),
        "skipped": Meaning("Skipped updates", "share whose gradient was not finite: 0 is healthy"),
    },
    "Score network": {
        "score_lag": Meaning("Score lag", "its loss over the teacher's on the student's samples: at most 1", guide=1.0),
        "score_gap": Meaning("Score gap", "sigma times (teacher's less student's score): 0 where they agree", log=True),
        "curl_student": Meaning(
            "Curl, student and teacher", "0 where a score is a gradient; teacher dashed", second="curl_teacher"
        ),
        "loop_student": Meaning(
            "Closed loops, student and teacher", "error of a line integral; teacher dashed", second="loop_teacher"
        ),
    },
    "Chains": {
        "acceptance": Meaning("Acceptance", "of proposals; 1 for unadjusted kernels"),
        "divergences": Meaning("Divergences", "per chain: 0 is healthy", guide=0.0),
        "noise_norm": Meaning("Noise, mean square", "of eps at the ends of chains; 1 under its law", guide=1.0),
        "latent_norm": Meaning("Latents, mean square", "at the ends of chains; 1 under their law", guide=1.0),
        "noise_chi2": Meaning("Noise, chi-square score", "about 0 +- 1 where chains hold N(0, I)", guide=0.0),
        "latents_chi2": Meaning("Latents, chi-square score", "about 0 +- 1 where chains hold N(0, I)", guide=0.0),
        "noise_to_drift": Meaning("Noise to drift", "how much of a chain's movement is noise", log=True),
    },
}
OWN_GROUPS = {  # by how a name begins
    "run_": "Samples on the way",
    "parameter_": "Parameters",
    "move_": "What one more M-step adds",
    "loss_of_": "What a move would lose",
    "lambda_": "Coordinates",
    "kappa_": "Coordinates",
    "cost_": "Coordinates",
    "failed_": "Left out",
}
REST = "Other figures"
ORDER = (
    "Learning",
    "Samples on the way",
    "Score network",
    "Chains",
    "Parameters",
    "What one more M-step adds",
    "What holds parameters",
    "Coordinates",
    "Left out",
    REST,
)
SAYS = {
    "Samples on the way": "of 1,000 samples of the averaged generator",
    "Parameters": "means between lines; at the end, of the averaged program",
    "What holds parameters": "nats that log p(y) loses at most where one moves by its size, or 1, to the better side",
    "Coordinates": "chosen from the chains' own draws",
    "Left out": "1 where what only looks at the training failed; its messages said why",
}

FIGURES = {  # of evaluation.json: title, whether more is better, None where it is neither
    "finite": ("Finite samples", True),
    "frechet": ("Frechet distance", False),
    "frechet_train": ("Frechet distance, train", False),
    "precision": ("Precision", True),
    "recall": ("Recall", True),
    "density": ("Density", True),
    "coverage": ("Coverage", True),
    "class_kl": ("Class KL", False),
    "modes": ("Modes found", True),
    "sharp": ("Sharp", True),
    "weight_kl": ("KL of mode weights", False),
    "sliced_w2": ("Sliced Wasserstein", False),
    "mean_error": ("Error of means", False),
    "sd_error": ("Error of s.d.s", False),
    "std_error": ("Error of s.d.s", False),
    "mmd": ("MMD", False),
    "c2st": ("Told apart by a classifier", False),
    "kid": ("KID", False),
    "class_recall": ("Recall, worst class", True),
    "class_accuracy": ("Class accuracy", True),
    "seconds_per_1000": ("Seconds for 1,000", False),
}
UNIMPORTANT = ("frechet_train", "seconds_per_1000")  # no tile of their own


def meaning(name: str) -> Meaning:
    """What a figure of metrics.jsonl is."""
    for group in GROUPS.values():
        if name in group:
            return group[name]
    own = next((begin for begin in OWN_GROUPS if name.startswith(begin)), "")
    bare = name.removeprefix(own) if own in ("run_", "parameter_", "move_", "loss_of_") else name
    if own == "run_":
        return Meaning(figure_title(bare))
    return Meaning(
        f"{bare}, next step" if own == "move_" else bare if own in ("parameter_", "loss_of_") else spaced(bare)
    )


def group_of(name: str) -> str:
    """The group that a figure of metrics.jsonl belongs to."""
    known = next((title for title, group in GROUPS.items() if name in group), None)
    return known or next((title for begin, title in OWN_GROUPS.items() if name.startswith(begin)), REST)


def grouped(names: set[str]) -> dict[str, list[str]]:
    """Figures by group, in the order in which they are shown; a second figure of another's chart is no own."""
    seconds = {name: one.second for group in GROUPS.values() for name, one in group.items() if one.second}
    shown = names - {second for name, second in seconds.items() if name in names}
    order = [name for group in GROUPS.values() for name in group]
    found: dict[str, list[str]] = {}
    for name in sorted(shown, key=lambda name: (order.index(name) if name in order else len(order), name)):
        found.setdefault(group_of(name), []).append(name)
    return {title: found[title] for title in ORDER if title in found}


def figure_title(name: str) -> str:
    """What a figure of evaluation.json is called."""
    return FIGURES[name][0] if name in FIGURES else spaced(name)


def more_is_better(name: str) -> bool | None:
    """Whether more of a figure is better; None where that is not known."""
    return FIGURES[name][1] if name in FIGURES else None


def spaced(name: str) -> str:
    """A name in words: mean_error is "Mean error"."""
    plain = re.sub("[_ ]+", " ", name).strip()
    return plain[:1].upper() + plain[1:]


MOST_WORDS = 300  # characters of one value
# what XML 1.0, section 2.2, leaves out or discourages: the second are commands of 8-bit terminals
UNWRITABLE = re.compile("[^\t\n\r -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
LONGEST = 4000  # characters of one text: more is no sentence, and a damaged file can hold anything


def clean(text: str) -> str:
    """A text without what HTML cannot hold (control characters, lone surrogates), and not longer than a page of it."""
    short = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    return UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", short)


def number(value: int | float | None) -> str:
    """A figure as people read it: 1,000; 290.7; 0.781; 0.0012; "-" where there is none."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "not finite"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    size = abs(value)
    if 0.1 <= size < 1e6:
        return f"{value:,.{3 if size < 10 else 2 if size < 100 else 1}f}"
    return f"{value:.2g}"


def size(count: int | float | None) -> str:
    """A number of bytes."""
    if count is None:
        return "unknown"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def operations(count: int | float | None) -> str:
    """A number of floating-point operations."""
    if count is None:
        return "unknown"
    for unit in ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} EFLOP"


def shape(sizes: Any) -> str:
    """The shape of an array: 8 x 8 x 1."""
    if not isinstance(sizes, list | tuple):
        return "-"
    return " x ".join(str(one) for one in sizes) or "scalar"


def value(found: Any) -> str:
    """Any value of JSON data in a line."""
    if isinstance(found, bool) or found is None:
        return {True: "yes", False: "no", None: "none"}[found]
    if isinstance(found, float):
        return f"{found:.6g}"
    if isinstance(found, list | tuple):
        return ", ".join(value(one) for one in found[:20])[:MOST_WORDS]
    if isinstance(found, dict):
        return ", ".join(f"{key} {value(one)}" for key, one in list(found.items())[:20])[:MOST_WORDS]
    return str(found)[:MOST_WORDS]


Score = Callable[[str, str], float | None]
FLOOR, TEACHER, STUDENT = "floor", "teacher", "student"


@dataclasses.dataclass(frozen=True)
class Limit:
    """How far off a figure may be: it falls short where it is beyond both bounds.

    Attributes:
        times: this multiple of what it is held against.
        apart: so much worse than that.
        share: whether it is a share of the judged samples, whose sampling noise widens `apart`.
        signed: whether it is noise about 0 where the distributions are one, so that sizes are compared.
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
    "sliced_w2": Limit(
        2.0
    ),  # between modes its noise falls as n^(-1/4): draws of one distribution reach 1.5 of the floor
    "kid": Limit(4.0, signed=True),  # of one distribution, one time in fifty beyond
    **dict.fromkeys(("mean_error", "sd_error", "mmd"), ERROR),
    "c2st": Limit(1.0, 0.1),  # 1 / 2 for distributions that are one
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
