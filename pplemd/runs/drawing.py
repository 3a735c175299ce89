"""Drawing many samples of a one-step generator, and keeping them as a picture or as arrays."""

import dataclasses
import io
import time
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, Int

from pplemd.diagnosis import save_draws
from pplemd.errors import DataError, RecipeError
from pplemd.plotting.samples import draw, save_png
from pplemd.report.reporter import AbstractNarrator, Silent
from pplemd.runs.loading import Loaded
from pplemd.storage.folder import write
from pplemd.tasks.distillation import Distilled
from pplemd.tasks.importance import Weighted, importance
from pplemd.tasks.timed_draws import timed_chunks
from pplemd.teachers import Posterior

CHUNK = 5000  # samples of one compiled call
SURPLUS, LEAST = 4, 10_000  # draws for each corrected sample, and in all: few are then taken twice, and k is known well


@dataclasses.dataclass(frozen=True)
class Samples:
    """Samples of a generator.

    Attributes:
        x: the samples, in data units.
        label: the class of each, or None.
        per_second: how many were drawn in a second, compilation left out.
    """

    x: Float[np.ndarray, "count ..."]
    label: Int[np.ndarray, " count"] | None
    per_second: float


def draw_samples(
    distilled: Distilled, count: int, label: int | None = None, seed: int = 0, narrator: AbstractNarrator | None = None
) -> Samples:
    """Draw samples in chunks of one compiled size.

    Args:
        distilled: the generator.
        count: how many.
        label: a class for all of them; by default drawn from the label prior.
        seed: seed of everything random.
        narrator: told how it goes.

    Raises:
        RecipeError: where the generator has no such class.
    """
    labels = _labels(distilled, count, label, seed)
    size = min(count, CHUNK)
    key = jax.random.key(seed)

    def one(number: int) -> np.ndarray:
        start = number * size
        part = None if labels is None else jax.numpy.asarray(np.resize(labels[start : start + size], size))
        return np.asarray(distilled.sample(jax.random.fold_in(key, start), size, part))

    chunks = -(-count // size)
    with (narrator or Silent()).task("sample", count) as task:
        drawn = timed_chunks(one, chunks, lambda done: task.to(min(done * size, count)))
    return Samples(drawn.x[:count], labels, chunks * size / drawn.seconds)


def corrected_samples(loaded: Loaded, count: int, seed: int = 0, insist: bool = False) -> tuple[Samples, Weighted]:
    """Draw more samples than are wanted, and resample them by importance weights.

    Args:
        loaded: the run.
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
    weighted = importance(loaded.distilled, loaded.plan.teacher, max(SURPLUS * count, LEAST), seed)
    if not (weighted.reliable or insist):
        raise DataError(f"{weighted.word} To have such draws all the same, ask twice: --correct --correct.")
    made = max(min(count, int(weighted.effective)), 1)
    x = weighted.resample(made, seed)
    return Samples(x, None, made / (time.perf_counter() - began)), weighted


def _labels(distilled: Distilled, count: int, label: int | None, seed: int) -> Int[np.ndarray, " count"] | None:
    classes = distilled.problem.classes
    if label is None:
        if distilled.labels is None:
            return None
        return np.asarray(distilled.labels.draw(jax.random.fold_in(jax.random.key(seed), 1), count))
    if classes is None:
        raise RecipeError(f"found label {label}; this generator is unconditional: leave the label out.")
    if not 0 <= label < classes:
        raise RecipeError(f"found label {label}; this generator has classes 0 to {classes - 1}.")
    return np.full(count, label, np.int32)


def save_samples(path: Path, samples: Samples, shape: tuple[int, ...], correction: Weighted | None = None) -> None:
    """Write samples, whole or not at all: x and label to an .npz file, a picture to a .png file.

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
    arrays = {"x": samples.x} if samples.label is None else {"x": samples.x, "label": samples.label}
    told = {name: np.asarray(value) for name, value in _corrected(correction).items()}
    np.savez(buffer, **arrays, **told)  # type: ignore[arg-type]  # numpy 2.1 added one flag among the names
    write(path, buffer.getvalue())


def save_named(path: Path, x: Float[np.ndarray, "count ..."], loaded: Loaded, correction: Weighted | None) -> None:
    """Write samples to a netCDF file for ArviZ: those of a posterior in its model's own names.

    Args:
        path: the file, .nc.
        x: the samples.
        loaded: the run that they are of.
        correction: where they were resampled by importance, the weights.

    Raises:
        DataError: where the file cannot be written.
    """
    teacher, name = loaded.plan.model.teacher, loaded.plan.problem.output.name
    values = {name: x}
    if isinstance(teacher, Posterior):
        values = {site: np.asarray(value) for site, value in teacher.constrained(jax.numpy.asarray(x)).items()}
    save_draws(path, values, {"step": loaded.step, **_corrected(correction)})


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


def refuse_together(path: Path, count: int | None, label: int | None, correct: bool, beside: bool) -> None:
    """See that no option is asked for that another would leave without effect.

    Raises:
        RecipeError: where one is.
    """
    if beside and (path.suffix != ".png" or count is not None or label is not None or correct):
        raise RecipeError(
            f"found --beside with {path.name if path.suffix != '.png' else '--count, --label or --correct'}; expected "
            "a name that ends in .png alone: it draws a picture of all classes. Leave the other out."
        )
    if correct and label is not None:
        raise RecipeError("found --correct with --label; expected one of them: what is corrected has no classes.")
