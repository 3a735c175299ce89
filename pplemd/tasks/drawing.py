"""Drawing many samples of a one-step generator, and keeping them as a picture or as arrays."""

import dataclasses
import io
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from pplemd.conditions import AbstractCondition, Condition, Labels, classes_of
from pplemd.diagnosis import save_groups
from pplemd.errors import DataError, RecipeError
from pplemd.plotting.samples import draw, image_grid, save_png
from pplemd.report.progress import AbstractReporter, Silent
from pplemd.storage.folder import write
from pplemd.tasks.base import DrawOptions, Written
from pplemd.tasks.evaluation import draw_teacher, timed_samples
from pplemd.tasks.importance import Weighted, importance
from pplemd.tasks.results import Distilled, timed_chunks
from pplemd.teachers import AbstractTeacher, Posterior, decoded, sample

CHUNK = 5000  # samples of one compiled call
USUAL = 100  # samples, where it is not said how many
EACH, ROWS, MOST_ROWS = 8, 8, 16  # images in a row, of each side; rows where there are no classes, and at most
SIDE_POINTS = 2000  # of each side, where x is no image
SURPLUS, LEAST = 4, 10_000  # draws for each corrected sample, and in all: few are then taken twice, and k is known well


@dataclasses.dataclass(frozen=True)
class Samples:
    """Samples of a generator.

    Attributes:
        x: the samples, in data units.
        conditions: that of each, or None.
        per_second: how many were drawn in a second, compilation left out.
    """

    x: Float[np.ndarray, "count ..."]
    conditions: Condition
    per_second: float


def draw_samples(
    distilled: Distilled, count: int, label: int | None = None, seed: int = 0, reporter: AbstractReporter | None = None
) -> Samples:
    """Draw samples in chunks of one compiled size.

    Args:
        distilled: the generator.
        count: how many.
        label: a class for all of them; by default conditions are drawn from their prior.
        seed: seed of everything random.
        reporter: shows how it goes.

    Raises:
        RecipeError: where the generator has no such class.
    """
    conditions = _conditions(distilled, count, label, seed)
    size = min(count, CHUNK)
    key = jax.random.key(seed)

    def one(number: int) -> np.ndarray:
        start = number * size
        part = jax.tree.map(
            lambda leaf: jnp.asarray(np.resize(leaf[start : start + size], (size, *leaf.shape[1:]))), conditions
        )
        return np.asarray(distilled.sample(jax.random.fold_in(key, start), size, part))

    chunks = -(-count // size)
    with (reporter or Silent()).progress("sample", count) as progress:
        drawn = timed_chunks(one, chunks, lambda done: progress.to(min(done * size, count)))
    return Samples(drawn.x[:count], conditions, chunks * size / drawn.seconds)


def corrected_samples(
    distilled: Distilled, teacher: AbstractTeacher, count: int, seed: int = 0, insist: bool = False
) -> tuple[Samples, Weighted]:
    """Draw more samples than are wanted, and resample them by importance weights.

    Args:
        distilled: the generator.
        teacher: its teacher.
        count: how many samples are wanted; no more are made than the draws are worth, their effective number.
        seed: seed of everything random.
        insist: whether to do it by weights that cannot be relied on, too.

    Returns:
        The samples, and the draws that they were taken from.

    Raises:
        TeacherError: where the density of the generator or of its teacher is not known.
        DataError: weights that cannot be relied on.
    """
    began = time.perf_counter()
    weighted = importance(distilled, teacher, max(SURPLUS * count, LEAST), seed)
    if not (weighted.reliable or insist):
        raise DataError(f"{weighted.word} To have such draws all the same, ask twice: --correct --correct.")
    made = max(min(count, int(weighted.effective)), 1)
    x = weighted.resample(made, seed)
    return Samples(x, None, made / (time.perf_counter() - began)), weighted


def chosen_class(condition: AbstractCondition | None, label: int) -> int:
    """A class that is there.

    Raises:
        RecipeError: where it is not.
    """
    classes = classes_of(condition)
    if condition is None:
        raise RecipeError(f"found label {label}; this generator is unconditional: leave the label out.")
    if classes is None:
        raise RecipeError(f"found label {label}; this generator's condition is no class: leave the label out.")
    if not 0 <= label < classes:
        raise RecipeError(f"found label {label}; this generator has classes 0 to {classes - 1}.")
    return label


def _conditions(distilled: Distilled, count: int, label: int | None, seed: int) -> Condition:
    if label is not None:
        return np.full(count, chosen_class(distilled.problem.condition, label), np.int32)
    prior, key = distilled.conditions, jax.random.fold_in(jax.random.key(seed), 1)
    return None if prior is None else jax.tree.map(np.asarray, prior.draw(key, count))


def save_samples(path: Path, samples: Samples, shape: tuple[int, ...], correction: Weighted | None = None) -> None:
    """Write samples, whole or not at all: x and their conditions to an .npz file, a picture to a .png file.

    A class is its array `label`; arrays of other conditions are `condition.` with their path.

    Args:
        path: the file.
        samples: what to write.
        shape: the shape of one sample.
        correction: where they were resampled by importance, the weights; the file tells how good they were.

    Raises:
        PplemdError: where the name ends otherwise, or the file cannot be written.
    """
    check_format(path)
    if path.suffix == ".png":
        save_png(path, draw(samples.x, shape), {name: str(value) for name, value in _corrected(correction).items()})
        return
    buffer = io.BytesIO()
    leaves = jax.tree_util.tree_leaves_with_path(samples.conditions)
    paths = [(jax.tree_util.keystr(path, simple=True, separator="."), np.asarray(leaf)) for path, leaf in leaves]
    named_conditions = {f"condition.{path}" if path else "label": leaf for path, leaf in paths}
    arrays = {"x": samples.x, **named_conditions}
    facts = {name: np.asarray(value) for name, value in _corrected(correction).items()}
    np.savez(buffer, **arrays, **facts)  # type: ignore[arg-type]  # numpy 2.1 added one flag among the names
    write(path, buffer.getvalue())


def save_named(
    path: Path,
    x: Float[np.ndarray, "count ..."],
    distilled: Distilled,
    teacher: AbstractTeacher,
    step: int,
    correction: Weighted | None,
) -> None:
    """Write samples to a netCDF file for ArviZ: those of a posterior in its model's own names.

    Args:
        path: the file, .nc.
        x: the samples.
        distilled: the generator that they are of.
        teacher: its teacher.
        step: of the checkpoint.
        correction: where they were resampled by importance, the weights.

    Raises:
        DataError: where the file cannot be written.
    """
    values = {distilled.problem.output.name: x}
    if isinstance(teacher, Posterior):
        values = {site: np.asarray(value) for site, value in teacher.constrained(jnp.asarray(x)).items()}
    chain = {site: value[None] for site, value in values.items()}
    save_groups(path, {"posterior": chain}, {"step": step, **_corrected(correction)})


def _corrected(correction: Weighted | None) -> dict[str, float | int | str]:
    """What a file says of a correction that its samples went through."""
    if correction is None:
        return {}
    return {
        "correction": "resampled by importance weights: "
        + ("reliable" if correction.reliable else "NOT RELIABLE, see pareto_k"),
        "pareto_k": correction.k_hat,
        "effective_draws": correction.effective,
        "weighted_draws": len(correction.x),
    }


def check_format(path: Path) -> None:
    """See that samples can be written to a file of this name.

    Raises:
        DataError: where it ends in something else than .png, .npz or .nc.
    """
    if path.suffix not in (".png", ".npz", ".nc"):
        raise DataError(f"found the output {path}; expected a name that ends in .png, .npz or .nc.")


def refuse_together(options: DrawOptions) -> None:
    """See that no option is given that another would leave without effect.

    Raises:
        RecipeError: where one is.
    """
    path, correct = options.target, bool(options.correct)
    if options.side_by_side and (path.suffix != ".png" or options.count or options.label is not None or correct):
        raise RecipeError(
            f"found --side-by-side with {path.name if path.suffix != '.png' else '--count, --label or --correct'}; "
            "expected a name that ends in .png alone: it draws a picture of all classes. Leave the other out."
        )
    if correct and options.label is not None:
        raise RecipeError("found --correct with --label; expected one of them: what is corrected has no classes.")


def draw_result(
    distilled: Distilled, teacher: AbstractTeacher, step: int, options: DrawOptions, reporter: AbstractReporter
) -> Written:
    """Draw samples of a run's generator, corrected where that is wanted, and write them."""
    count, weighted, further = options.count or USUAL, None, dict[str, float | int]()
    if options.correct:
        samples, weighted = corrected_samples(distilled, teacher, count, options.seed, options.correct > 1)
        reporter.say(weighted.word)
        if len(samples.x) < count:
            reporter.say(f"{len(samples.x):,} samples in place of {count:,}: more of them would say nothing new.")
        further = {"pareto_k": weighted.k_hat, "effective_draws": weighted.effective}
    else:
        samples = draw_samples(distilled, count, options.label, options.seed, reporter)
    if options.target.suffix == ".nc":
        save_named(options.target, samples.x, distilled, teacher, step, weighted)
    else:
        save_samples(options.target, samples, distilled.shape, weighted)
    made, rate = len(samples.x), round(samples.per_second)
    line = f"{made:,} samples of step {step:,}, {rate:,} a second"
    return Written({"count": made, "per_second": rate, **further}, line)


def draw_side_by_side(
    distilled: Distilled, teacher: AbstractTeacher, step: int, options: DrawOptions, reporter: AbstractReporter
) -> Written:
    """Draw a picture: the teacher's samples at the left, the generator's at the right."""
    save_png(options.target, picture_side_by_side(distilled, teacher, options.seed, reporter))
    return Written({}, f"samples of the teacher, and of step {step:,} at its right")


def some_classes(classes: int) -> Int[np.ndarray, " rows"]:
    """Classes to draw, evenly apart: all, or as many as a picture has room for."""
    return np.linspace(0, classes - 1, min(classes, MOST_ROWS)).round().astype(np.int32)


def picture_side_by_side(
    distilled: Distilled, teacher: AbstractTeacher, seed: int, reporter: AbstractReporter
) -> Image.Image:
    """Images of the teacher at the left, of the generator at the right, a row for each condition; or two clouds.

    Of many classes some are drawn, evenly apart.

    Args:
        distilled: the generator.
        teacher: its teacher, ready.
        seed: seed of the samples.
        reporter: shows how it goes.
    """
    prior, shape, key = distilled.conditions, distilled.shape, jax.random.key(seed)
    if len(shape) != 3:
        from pplemd.plotting.scatters import scatter  # here: every command would wait for Matplotlib

        drawn = timed_samples(distilled.sample, key, SIDE_POINTS, prior).x
        return scatter(drawn, draw_teacher(teacher, prior, seed, count=SIDE_POINTS).x)
    conditions, count = None, EACH * ROWS
    if prior is not None:
        rows = some_classes(prior.classes) if isinstance(prior, Labels) else prior.in_turn(ROWS)
        conditions = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf), EACH, axis=0), rows)
        count = EACH * len(jax.tree.leaves(rows)[0])
    with reporter.progress("sample", 2) as progress:
        left = np.asarray(decoded(teacher, sample(key, teacher, count, conditions))).reshape(-1, EACH, *shape)
        progress.to(1)
        right = np.asarray(distilled.sample(key, count, conditions)).reshape(-1, EACH, *shape)
        progress.to(2)
    nothing = np.full_like(left[:, :1], np.nan)  # is drawn grey
    whole = np.concatenate([left, nothing, right], axis=1)
    return image_grid(whole.reshape(-1, *shape), columns=2 * EACH + 1)
