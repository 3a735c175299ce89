"""How good a distilled generator is: the same figures for real samples, the teacher, and the student."""

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.errors import DataError, DivergenceError
from pplemd.inference.reference_draws import reference_draws
from pplemd.learning import Labels
from pplemd.metrics import AbstractEvaluation, AbstractMeasure, SampleEvaluation
from pplemd.tasks.distillation import Distilled
from pplemd.tasks.timed_draws import timed_chunks
from pplemd.teachers import AbstractDensity, AbstractDrawnTeacher, AbstractTeacher, sample

GLANCE = 1000  # samples judged while a run is under way: a fifth of what images are judged by at its end
SOLVED = 2000  # samples judged where the teacher's own are the reference, and each takes it a reverse diffusion
CHUNK = 500  # samples drawn at a time: bounds memory, and gives a progress bar something to show

Draw = Callable[[PRNGKeyArray, int, Int[Array, " count"] | None], Array]


@dataclasses.dataclass(frozen=True)
class Report:
    """The table that a run ends with.

    Attributes:
        floor: figures of real samples against other real samples.
        teacher: figures of the teacher's samples, with `seconds_per_1000`.
        student: figures of the student's samples, with `seconds_per_1000`.
        count: samples judged.
        seed: seed of the samples.
    """

    floor: dict[str, float]
    teacher: dict[str, float]
    student: dict[str, float]
    count: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Samples and what they cost.

    Attributes:
        x: the samples.
        labels: the class that each was asked for, or None.
        seconds_per_1000: wall time for a thousand, compilation left out (but for chains).
    """

    x: Float[np.ndarray, "count ..."]
    labels: Int[np.ndarray, " count"] | None
    seconds_per_1000: float


def evaluate(
    distilled: Distilled,
    teacher: AbstractTeacher,
    evaluation: AbstractEvaluation | None,
    seed: int = 0,
    advance: Callable[[float], None] = lambda share: None,
    known: Report | None = None,
    phase: Callable[[str], None] = lambda what: None,
) -> Report:
    """Judge a student and its teacher by the same figures.

    Args:
        distilled: the student.
        teacher: its teacher.
        evaluation: what to measure; by default distances from other draws of the teacher.
        seed: seed of the samples and of the random choices of the figures; training never uses its key.
        advance: told the share that is done, 0 to 1.
        known: a report of another student of this teacher by this evaluation, as in a comparison: of as many samples
            and of the same seed, its floor and its teacher's figures are these, and are not found again.
        phase: told what is done, before it is.

    Raises:
        DivergenceError: where samples are not finite.
    """
    labels = distilled.labels
    chosen_evaluation = evaluation or _against_teacher(teacher, labels)
    phase("the reference")
    measure = chosen_evaluation.prepare()
    count = chosen_evaluation.count
    key = jax.random.fold_in(jax.random.key(seed), 0x5EED)
    if known is not None and (known.count, known.seed) == (count, seed):
        floor, of_teacher = known.floor, known.teacher
    else:
        phase("compiling and drawing the teacher's first samples")
        from_teacher = _of_teacher(teacher, key, count, labels, lambda share: advance(0.7 * share))
        phase("figures of real samples")
        floor = measure.floor(seed, labelled=labels is not None)
        advance(0.8)
        phase("figures of the teacher")
        of_teacher = _measured(measure, from_teacher, "teacher", seed)
    phase("compiling and drawing the student's first samples")
    from_student = draw(distilled.sample, jax.random.fold_in(key, 1), count, labels, lambda s: advance(0.85 + 0.1 * s))
    phase("figures of the student")
    of_student = _measured(measure, from_student, "student", seed)
    advance(1.0)
    return Report(floor, of_teacher, of_student, count, seed)


def glance(distilled: Distilled, measure: AbstractMeasure, key: PRNGKeyArray, count: int = GLANCE) -> dict[str, float]:
    """The figures of a few samples of a student under training: run_finite, their share that is finite, and run_*.

    Figures depend on the number of samples: they are to be compared with each other, not with a Report's.

    Args:
        distilled: the student.
        measure: the prepared evaluation.
        key: a key.
        count: samples to judge.
    """
    drawn = draw(distilled.sample, key, count, distilled.labels)
    x = drawn.x
    share = float(np.isfinite(x.reshape(len(x), -1)).all(axis=1).mean())
    figures = {"run_finite": share}
    if share < 1:
        return figures
    try:
        return figures | {f"run_{name}": value for name, value in measure.measure(x, labels=drawn.labels).items()}
    except DataError:  # numbers too large to square: the run goes on, and its alarms tell why
        return figures


def _measured(measure: AbstractMeasure, drawn: Drawn, who: str, seed: int) -> dict[str, float]:
    bad = int(np.sum(~np.isfinite(drawn.x.reshape(len(drawn.x), -1)).all(axis=1)))
    if bad:
        raise DivergenceError(
            f"{bad} of {len(drawn.x)} samples of the {who} are not finite, so they cannot be judged. "
            "The run has diverged: distil again with a smaller learning rate or E-step step size."
        )
    return {**measure.measure(drawn.x, seed, drawn.labels), "seconds_per_1000": drawn.seconds_per_1000}


def draw(
    source: Draw,
    key: PRNGKeyArray,
    count: int,
    labels: Labels | Int[Array, " count"] | None,
    advance: Callable[[float], None] = lambda share: None,
) -> Drawn:
    """Draw many samples in chunks of one compiled size, and time them.

    Args:
        source: `(key, count, labels) -> x`.
        key: a key.
        count: how many.
        labels: the prior of their labels, the label of each, or None.
        advance: told the share that is done.
    """
    chunks, size = -(-count // CHUNK), min(count, CHUNK)

    def asked(i: int) -> Int[Array, " size"] | None:
        if isinstance(labels, Labels):
            return labels.draw(jax.random.split(jax.random.fold_in(key, i))[0], size)
        return None if labels is None else jnp.resize(labels[i * size : (i + 1) * size], (size,))

    def one(i: int) -> np.ndarray:
        key_x = jax.random.split(jax.random.fold_in(key, i))[1]
        return np.asarray(source(key_x, size, asked(i)))

    drawn = timed_chunks(one, chunks, lambda done: advance(done / chunks))
    chosen = None if labels is None else np.concatenate([np.asarray(asked(i)) for i in range(chunks)])[:count]
    return Drawn(drawn.x[:count], chosen, drawn.seconds * 1000 / (chunks * size))


def draw_teacher(
    teacher: AbstractTeacher,
    labels: Labels | None,
    seed: int = 0,
    advance: Callable[[float], None] = lambda share: None,
    count: int = 100,
) -> Drawn:
    """A few samples of a teacher, one class after the other where it has classes, for a picture."""
    if _by_chains(teacher):
        return _of_teacher(teacher, jax.random.key(seed), count, None, advance)
    chosen = None if labels is None else uniform_classes(labels.classes, count)
    return draw(lambda k, n, asked: sample(k, teacher, n, asked), jax.random.key(seed), count, chosen, advance)


def _by_chains(teacher: AbstractTeacher) -> bool:
    """Whether only chains draw from a teacher."""
    return isinstance(teacher, AbstractDensity) and not isinstance(teacher, AbstractDrawnTeacher)


def _of_teacher(
    teacher: AbstractTeacher,
    key: PRNGKeyArray,
    count: int,
    labels: Labels | None,
    advance: Callable[[float], None] = lambda share: None,
) -> Drawn:
    """Samples of a teacher; of a density by chains, whose warm-up and compilation are part of their time."""
    if not isinstance(teacher, AbstractDensity) or not _by_chains(teacher):
        return draw(lambda k, n, chosen: sample(k, teacher, n, chosen), key, count, labels, advance)
    began = time.perf_counter()
    x = reference_draws(teacher, count, int(jax.random.randint(key, (), 0, 2**31 - 1)))
    advance(1.0)
    return Drawn(x, None, (time.perf_counter() - began) * 1000 / count)


def _against_teacher(teacher: AbstractTeacher, labels: Labels | None) -> SampleEvaluation:
    """The evaluation of a model without one; of fewer samples where each is a reverse diffusion's."""
    reference = _reference(teacher, labels)
    if isinstance(teacher, AbstractDrawnTeacher | AbstractDensity):
        return SampleEvaluation(reference)
    return SampleEvaluation(reference, SOLVED)


def _reference(teacher: AbstractTeacher, labels: Labels | None) -> Callable[[int, int], np.ndarray]:
    """Draws of the teacher as the reference, for models without an evaluation."""

    def reference(count: int, seed: int) -> np.ndarray:
        return _of_teacher(teacher, jax.random.fold_in(jax.random.key(seed), 0x7EAC), count, labels).x

    return reference


def uniform_classes(classes: int, count: int) -> Int[Array, " count"]:
    """Labels 0, 1, ..., classes - 1, 0, 1, ...: one of each in turn, for pictures."""
    return jnp.arange(count, dtype=jnp.int32) % classes
