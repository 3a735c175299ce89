"""How good a distilled generator is: the same figures for real samples, the teacher, and the student."""

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.conditions import AbstractConditionPrior, Condition, Labels
from pplemd.data import npz
from pplemd.errors import DataError, DivergenceError, RecipeError
from pplemd.importers.classifiers import features
from pplemd.inference.reference_draws import reference_draws
from pplemd.keys import named
from pplemd.metrics import AbstractEvaluation, AbstractMeasure, ImageEvaluation, SampleEvaluation
from pplemd.tasks.base import AbstractReport, EvaluationOptions
from pplemd.tasks.results import Distilled, timed_chunks
from pplemd.teachers import AbstractDensity, AbstractDrawnTeacher, AbstractTeacher, decoded, sample

GLANCE = 1000  # samples judged while a run is under way: a fifth of what images are judged by at its end
SOLVED = 2000  # samples judged where the teacher's own are the reference, and each takes it a reverse diffusion
CHUNK = 500  # samples drawn at a time: bounds memory, and gives a progress bar something to show

Draw = Callable[[PRNGKeyArray, int, Condition], Array]


@dataclasses.dataclass(frozen=True)
class Report(AbstractReport):
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
        labels: the class of each, where its condition is a class.
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
        advance: called with the share that is done, 0 to 1.
        known: a report of another student of this teacher by this evaluation, as in a comparison: of as many samples
            and of the same seed, its floor and its teacher's figures are these, and are not found again.
        phase: called with what is done, before it is.

    Raises:
        DivergenceError: where samples are not finite.
    """
    conditions = distilled.conditions
    chosen_evaluation = evaluation or _against_teacher(teacher, conditions)
    phase("the reference")
    measure = chosen_evaluation.prepare()
    count = chosen_evaluation.count
    key = named(jax.random.key(seed), "judging")
    if known is not None and (known.count, known.seed) == (count, seed):
        floor, of_teacher = known.floor, known.teacher
    else:
        phase("compiling and drawing the teacher's first samples")
        from_teacher = _of_teacher(teacher, key, count, conditions, lambda share: advance(0.7 * share))
        phase("figures of real samples")
        floor = measure.floor(seed, labelled=distilled.problem.classes is not None)
        advance(0.8)
        phase("figures of the teacher")
        of_teacher = _measured(measure, from_teacher, "teacher", seed)
    phase("compiling and drawing the student's first samples")
    from_student = timed_samples(
        distilled.sample, jax.random.fold_in(key, 1), count, conditions, lambda s: advance(0.85 + 0.1 * s)
    )
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
    drawn = timed_samples(distilled.sample, key, count, distilled.conditions)
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


def timed_samples(
    source: Draw,
    key: PRNGKeyArray,
    count: int,
    conditions: AbstractConditionPrior | Condition,
    advance: Callable[[float], None] = lambda share: None,
) -> Drawn:
    """Draw many samples in chunks of one compiled size, and time them.

    Args:
        source: `(key, count, conditions) -> x`.
        key: a key.
        count: how many.
        conditions: their prior, one for each with a leading dimension count, or None.
        advance: called with the share that is done.
    """
    chunks, size = -(-count // CHUNK), min(count, CHUNK)

    def chosen(i: int) -> Condition:
        if isinstance(conditions, AbstractConditionPrior):
            return conditions.draw(jax.random.split(jax.random.fold_in(key, i))[0], size)
        return jax.tree.map(
            lambda leaf: jnp.resize(leaf[i * size : (i + 1) * size], (size, *leaf.shape[1:])), conditions
        )

    def one(i: int) -> np.ndarray:
        key_x = jax.random.split(jax.random.fold_in(key, i))[1]
        return np.asarray(source(key_x, size, chosen(i)))

    drawn = timed_chunks(one, chunks, lambda done: advance(done / chunks))
    labels = None
    if isinstance(conditions, Labels | jax.Array):  # a condition that is one number is a class
        labels = np.concatenate([np.asarray(chosen(i)) for i in range(chunks)])[:count]
    return Drawn(drawn.x[:count], labels, drawn.seconds * 1000 / (chunks * size))


def draw_teacher(
    teacher: AbstractTeacher,
    prior: AbstractConditionPrior | None,
    seed: int = 0,
    advance: Callable[[float], None] = lambda share: None,
    count: int = 100,
) -> Drawn:
    """A few samples of a teacher, one condition after the other where it has conditions, for a picture."""
    key = jax.random.key(seed)
    if _by_chains(teacher):
        return _of_teacher(teacher, key, count, None, advance)
    return timed_samples(_source(teacher), key, count, None if prior is None else prior.in_turn(count), advance)


def _source(teacher: AbstractTeacher) -> Draw:
    """What draws from a teacher, decoded."""
    return lambda key, count, conditions: decoded(teacher, sample(key, teacher, count, conditions))


def _by_chains(teacher: AbstractTeacher) -> bool:
    """Whether only chains draw from a teacher."""
    return isinstance(teacher, AbstractDensity) and not isinstance(teacher, AbstractDrawnTeacher)


def _of_teacher(
    teacher: AbstractTeacher,
    key: PRNGKeyArray,
    count: int,
    conditions: AbstractConditionPrior | None,
    advance: Callable[[float], None] = lambda share: None,
) -> Drawn:
    """Samples of a teacher; of a density by chains, whose warm-up and compilation are part of their time."""
    if not isinstance(teacher, AbstractDensity) or not _by_chains(teacher):
        return timed_samples(_source(teacher), key, count, conditions, advance)
    began = time.perf_counter()
    x = reference_draws(teacher, count, int(jax.random.randint(key, (), 0, 2**31 - 1)))
    advance(1.0)
    return Drawn(x, None, (time.perf_counter() - began) * 1000 / count)


def _against_teacher(teacher: AbstractTeacher, conditions: AbstractConditionPrior | None) -> SampleEvaluation:
    """The evaluation of a model without one; of fewer samples where each is a reverse diffusion's."""

    # draws of the teacher as the reference, for models without an evaluation
    def reference(count: int, seed: int) -> np.ndarray:
        return _of_teacher(teacher, named(jax.random.key(seed), "teacher's draws"), count, conditions).x

    if isinstance(teacher, AbstractDrawnTeacher | AbstractDensity):
        return SampleEvaluation(reference)
    return SampleEvaluation(reference, SOLVED)


def instead(declared: AbstractEvaluation | None, options: EvaluationOptions) -> AbstractEvaluation | None:
    """A model's evaluation, with the features and data of options in place of its own.

    Raises:
        RecipeError: features without images to compare with.
        ImporterError: features that cannot be read.
        DataError: data that cannot be read.
    """
    chosen = declared
    if options.data is not None:
        images = npz(options.data)
        chosen = ImageEvaluation(images)
        if isinstance(declared, ImageEvaluation):
            chosen = dataclasses.replace(declared, dataset=images)
    if options.features is None:
        return chosen
    if not isinstance(chosen, ImageEvaluation):
        raise RecipeError(
            f"--features {options.features}: this model has no images that features could compare its samples with. "
            "Give some by --data FILE.npz, or declare evaluation=em.metrics.ImageEvaluation(data) in the model."
        )
    return dataclasses.replace(chosen, features=features(options.features))
