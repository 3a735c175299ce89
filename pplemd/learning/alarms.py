"""When a training goes wrong: what was found in its metrics, the likely cause, and the repair. Pure functions."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from statistics import fmean, median
from typing import Any

from pplemd.inference import Chain
from pplemd.learning.training import Training

History = Sequence[Mapping[str, Any]]  # lines of metrics.jsonl, the newest last; None stands for what is not finite

LATENTS = 9.0  # mean square of the latents: 3 s.d. each, where the generator has hardly been; healthy runs: .8 to 1.3
NOISE = 25.0  # mean square of eps: 5 s.d. each, farther than either score was trained; healthy runs: .9 to 1.4
GRADIENT = 10.0  # of the running median; in 18 runs of digits and ring it was 2.7 times at most
WINDOWS = 20  # that the running median looks back on: a thousand steps by default
ACCEPTANCE = 1 / 3  # of what the kernel wants: two thirds of the evaluations that were planned for are lost
REFUSES = 0.999  # of an adjusted kernel: above, steps are a hundredth of what they may be, or nothing is decided
SETTLED = 3  # reports before acceptance is judged: adaptation moves log h by at most rate x steps of them
DIVERGENCES = 0.05  # share of transitions: one chain of 4 transitions in 5 has one
LAG = 1.5  # of the teacher's loss on the student's samples; healthy runs: .2 to 1.1, of 64 samples with errors of .1
STARTED, JUDGED = 3, 5  # reports whose mean pull is compared: the first ones and the newest
PATIENCE = 500  # steps after which the pull must have fallen: healthy runs .12 to .97 of its start, lagging 1.02 to 1.3
RECALL = 0.6  # of the best so far; at 1,000 samples its own s.d. is below .02
MODES_LOST = (2, 0.25)  # modes, or share of the most found: one rare mode comes and goes at 1,000 samples
CLASS_KL = 0.1  # nats above the least so far: a lost class of ten costs log(10 / 9) = .105
TINY = 1e-30  # stands for zero under a fraction
SKIPPED = 0.05  # of the updates: a rare one does no harm


@dataclasses.dataclass(frozen=True)
class Alarm:
    """Something that a person should know at once.

    Attributes:
        name: of the rule.
        found: the figures.
        cause: what usually does this.
        repair: what to change.
    """

    name: str
    found: str
    cause: str
    repair: str


@dataclasses.dataclass(frozen=True)
class Watched:
    """What rules know of the training whose lines they read.

    Attributes:
        training: its numbers.
        chain: that of its E-step; None where there is none.
        moves_latents: whether that chain moves latents.
        score_updates: updates of its score network in a step; None where it has none.
    """

    training: Training
    chain: Chain | None = None
    moves_latents: bool = False
    score_updates: int | None = None


Rule = Callable[[History, Watched], Alarm | None]


def alarms(history: History, watched: Watched) -> tuple[Alarm, ...]:
    """What the newest line gives reason to be alarmed about, in the light of those before.

    Rules stand in groups, causes before what they cause; of each group the first that fires is reported.

    Args:
        history: lines of metrics.jsonl, the newest last.
        watched: the training.
    """
    if not history:
        return ()
    found = (next((alarm for rule in rules if (alarm := rule(history, watched))), None) for rules in GROUPS)
    return tuple(alarm for alarm in found if alarm)


def latents_run_away(history: History, watched: Watched) -> Alarm | None:
    """Chains that leave the latents' law: unadjusted steps that are too long for J_g(z)^T Ds."""
    value = _newest(history, "latent_norm")
    if not watched.moves_latents or value is None or not value > _bound(LATENTS, watched):
        return None
    return Alarm(
        "latents_run_away",
        f"the chains' latents have a mean square of {value:.3g}; it is 1 under their law",
        _why_they_run(watched),
        _shorter(watched) + ", or leave the latents where they are, --set algorithm.move_latents=false",
    )


def noise_runs_away(history: History, watched: Watched) -> Alarm | None:
    """Chains that leave the noise's law: steps too long, or a student that is far off, or was thrown there."""
    value = _newest(history, "noise_norm")
    if value is None or not value > _bound(NOISE, watched):
        return None
    return Alarm(
        "noise_runs_away",
        f"the chains' noise has a mean square of {value:.3g}; it is 1 where student and teacher agree",
        "at small sigma the student is many sigma away from the teacher: far off from the start, or thrown there by a "
        "learning rate that is too large; or the E-step's steps are too long",
        "start with large noise levels, sigmas=em.CoarseToFine(...), or divide algorithm.generator.learning_rate by "
        "10, or " + _shorter(watched),
    )


def non_finite(history: History, watched: Watched) -> Alarm | None:
    """Figures of the chains or the losses that are no numbers."""
    names = ("latent_norm", "noise_norm", "pull", *(name for name in history[-1] if name.endswith("loss")))
    bad = [name for name in names if math.isnan(_newest(history, name) or 0.0)]
    if not bad:
        return None
    from_the_start = len(_last(history, "pull", 2)) == 1 and (_newest(history, "skipped") or 0.0) >= 1
    if from_the_start:
        cause = "from the first step on, the teacher, its score or the program returns NaN or infinity"
        repair = (
            "evaluate teacher.score(x, sigma) at the smallest and largest sigma of algorithm.sigmas; were both finite, "
        )
        return Alarm("non_finite", f"{', '.join(bad)} not finite", cause, repair + _shorter(watched))
    return Alarm("non_finite", f"{', '.join(bad)} not finite", _why_they_run(watched), _shorter(watched))


def updates_skipped(history: History, watched: Watched) -> Alarm | None:
    """Gradients that are not finite although the losses are."""
    value = _newest(history, "skipped")
    if value is None or not value > SKIPPED:
        return None
    return Alarm(
        "updates_skipped",
        f"{value:.0%} of the updates were skipped, their gradients not finite",
        "a derivative of the program or of the score network overflows: sqrt, log or a division near zero",
        "bound what the program divides by or takes roots of; or lower the learning rates",
    )


def gradient_explodes(history: History, watched: Watched) -> Alarm | None:
    """A gradient far above its running median."""
    value = _newest(history, "gradient_norm")
    usual = [norm for norm in _last(history[:-1], "gradient_norm", WINDOWS) if math.isfinite(norm)]
    if value is None or len(usual) < JUDGED or not value > GRADIENT * median(usual):
        return None
    return Alarm(
        "gradient_explodes",
        f"gradient_norm is {value:.3g}, {value / max(median(usual), TINY):.0f} times its running median",
        "the generator has left where its score network knows it, or its learning rate is too large",
        "lower algorithm.generator.learning_rate to a third, and raise algorithm.score.count",
    )


def acceptance_low(history: History, watched: Watched) -> Alarm | None:
    """An adjusted kernel that hardly moves."""
    kernel, value = None if watched.chain is None else watched.chain.kernel, _newest(history, "acceptance")
    wanted = None if kernel is None else kernel.wanted_acceptance
    settled = len(_last(history, "acceptance", SETTLED)) == SETTLED
    if kernel is None or wanted is None or value is None or not (settled and value < ACCEPTANCE * wanted):
        return None
    lower = "lower algorithm.adaptation.initial, or raise algorithm.adaptation.rate"
    repair = lower if kernel.step_size is None else "halve the kernel's step_size"
    return Alarm(
        "acceptance_low",
        f"acceptance is {value:.2g}; the kernel wants {wanted:.2g}",
        "steps are too long for some noise levels, or the scores are no gradients (see loop_teacher, loop_student)",
        repair,
    )


def acceptance_full(history: History, watched: Watched) -> Alarm | None:
    """An adjusted kernel that refuses nothing."""
    values = _last(history, "acceptance", SETTLED)
    adjusted = watched.chain is not None and watched.chain.kernel.wanted_acceptance is not None
    if not adjusted or len(values) < SETTLED or not min(values) > REFUSES:
        return None
    return Alarm(
        "acceptance_full",
        f"acceptance is {values[0]:.4f}; the kernel should refuse some proposals",
        "steps are far too short, or energies are so large that 32 bits do not tell one from the next",
        "lengthen the steps (algorithm.adaptation.initial, or the kernel's step_size); scale the data to a s.d. near 1",
    )


def many_divergences(history: History, watched: Watched) -> Alarm | None:
    """Transitions whose energy error is beyond all bounds."""
    value = _newest(history, "divergences")
    if value is None or not value > DIVERGENCES:
        return None
    return Alarm(
        "divergences",
        f"{value:.0%} of the transitions diverged",
        "the kernel's steps are longer than the law is wide, mostly at the smallest sigma or where g is steep",
        _shorter(watched),
    )


def score_lags(history: History, watched: Watched) -> Alarm | None:
    """A score network that does not follow the student, which is then pulled to where it should not go.

    Seen by its loss, or by a pull that does not fall: each step moves the student, and none brings it nearer.
    """
    lag, first, last = (
        _newest(history, "score_lag"),
        list(islice(_values(history, "pull"), STARTED)),
        _last(history, "pull", JUDGED),
    )
    late = (
        _newest(history, "pull") is not None
        and int(history[-1].get("step", 0)) >= PATIENCE
        and len(history) >= STARTED + JUDGED
    )
    found = ""
    if lag is not None and lag > LAG:
        found = f"score_lag is {lag:.3g}: the score network knows the student less well than the teacher does"
    elif late and fmean(last) > fmean(first):
        ratio = fmean(last) / max(fmean(first), TINY)
        found = f"the pull is {ratio:.3g} times what it was at the start; by now it should have fallen"
    if not found:
        return None
    return Alarm(
        "score_lag",
        found,
        f"the student outruns its score network (algorithm.score.count={watched.score_updates})",
        f"{_more_updates(watched)}, or raise algorithm.score.optimiser.learning_rate",
    )


def collapse(history: History, watched: Watched) -> Alarm | None:
    """Samples that lose what they had: recall, modes, or the balance of classes or modes."""
    found, chain = _lost(history), watched.chain
    if not found:
        return None
    moves = "" if chain is None else "few or short E-step moves, or "
    longer = "" if chain is None else f", --set algorithm.chain.length={2 * chain.length}"
    return Alarm(
        "collapse",
        found,
        f"the student gives up part of the law: {moves}a score network that lags",
        f"{_more_updates(watched)}{longer}, or a lower algorithm.generator.learning_rate",
    )


GROUPS: tuple[tuple[Rule, ...], ...] = (
    (latents_run_away, noise_runs_away, non_finite, updates_skipped, gradient_explodes),
    (many_divergences, acceptance_low, acceptance_full),
    (score_lags,),
    (collapse,),
)


def _lost(history: History) -> str:
    """What the newest in-run figures lack of the best ones before, in words; empty where nothing is lost."""
    for name, least in (("run_recall", lambda best: RECALL * best), ("run_modes", _modes_left)):
        value, before = _newest(history, name), _before(history, name)
        if value is not None and before and value <= least(max(before)):
            return f"{name} fell to {value:.3g} from {max(before):.3g}"
    for name in ("run_class_kl", "run_weight_kl"):
        value, before = _newest(history, name), _before(history, name)
        if value is not None and before and value > min(before) + CLASS_KL:
            return f"{name} rose to {value:.3g} nats from {min(before):.3g}"
    return ""


def _modes_left(best: float) -> float:
    count, share = MODES_LOST
    return best - max(count, share * best)


def _newest(history: History, name: str) -> float | None:
    """A figure of the newest line, NaN where it is not finite, None where that line has none."""
    return next(_values(history[-1:], name), None)


def _before(history: History, name: str) -> list[float]:
    """A figure's finite values before the newest line; none where that line has not the figure."""
    known = history[:-1] if name in history[-1] else ()
    return [value for value in _values(known, name) if math.isfinite(value)]


def _last(history: History, name: str, count: int) -> list[float]:
    """The newest values of a figure, the newest first."""
    return list(islice(_values(reversed(history), name), count))


def _values(lines: Iterable[Mapping[str, Any]], name: str) -> Iterator[float]:
    """The values of a figure, NaN where it was not finite."""
    return (math.nan if line[name] is None else float(line[name]) for line in lines if name in line)


def _bound(bound: float, watched: Watched) -> float:
    """The bound, or 6 s.d. above 1 of the mean square of few numbers."""
    return max(bound, 1 + 6 * math.sqrt(2 / (watched.training.batch * watched.training.log_every)))


def _more_updates(watched: Watched) -> str:
    return f"--set algorithm.score.count={2 * (watched.score_updates or 1)}"


def _why_they_run(watched: Watched) -> str:
    if watched.chain is None or watched.chain.kernel.wanted_acceptance is None:
        return "the kernel accepts every step (unadjusted), and its steps are too long: chains run away, at first a few"
    return (
        "the student is so far from the teacher that the tilt is that strong, or the scores are no gradients (loop_*)"
    )


def _shorter(watched: Watched) -> str:
    if watched.chain is None:
        return "lower algorithm.generator.learning_rate to a third"
    kernel = watched.chain.kernel
    if kernel.wanted_acceptance is None:
        return "divide the kernel's step_size by 10, or adjust its steps, chain=em.Chain(em.mala(), length=...)"
    return "lower algorithm.adaptation.initial" if kernel.step_size is None else "halve the kernel's step_size"
