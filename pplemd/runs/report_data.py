"""What a report shows of a run beyond its files: drawn from its newest checkpoint, each thing for itself.

Whatever cannot be drawn becomes a note: the model file may be gone, the teacher not at hand, the checkpoint of another
time; a report is what people open when something went wrong.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pplemd.dsl import Problem
from pplemd.errors import TeacherError
from pplemd.learning import EMStep, alarms, fit_alarms
from pplemd.planning.describe import describe, describe_fit, parameters
from pplemd.report import Exhibits, Told
from pplemd.report.reporter import AbstractNarrator, Silent
from pplemd.runs.diagnose import corrections, typical_sigmas
from pplemd.runs.drawing import corrected_samples
from pplemd.runs.journal import Judge
from pplemd.runs.loading import Loaded, LoadedFit, load_any
from pplemd.storage.folder import RunFolder, reason
from pplemd.storage.run_reader import read_remains
from pplemd.tasks.distillation import Distilled
from pplemd.tasks.double_precision import restored
from pplemd.tasks.evaluation import draw_teacher, uniform_classes
from pplemd.tasks.fitting import rows_of
from pplemd.tasks.model import Model
from pplemd.tasks.teacher_training import is_ready, ready_teacher
from pplemd.teachers import AbstractDensity, AbstractDrawnTeacher, AbstractTeacher, Posterior

IMAGES, POINTS, PIXELS = 100, 1500, 1_500_000  # samples in a picture, and pixels of it
PATHS, IMAGE_STEPS, POINT_STEPS = 8, 10, 60  # between latents
PAIRS = 200  # of points before and after the E-step that are drawn
NAMED = 10_000  # samples of a posterior in its histograms
HEAVY = 50_000_000  # parameters: a teacher of more is not asked on a CPU, where its samples would take hours
STAGES = 5
KEY = 0x2E907  # of everything that is drawn here


class _Noting:
    """Collects what is drawn, and sentences about what could not be."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def say(self, sentence: str) -> None:
        plain = sentence.removeprefix("note: ")
        self.notes.append(plain[:1].upper() + plain[1:])

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """In a `with` block, whatever is raised becomes a note."""
        try:
            yield
        except Exception as error:  # a model file's own code, Orbax, XLA: many kinds, each means: not this one
            self.notes.append(f"{what} could not be drawn ({reason(error)}).")


@restored()
def exhibits(folder: RunFolder, model_file: Path | None, narrator: AbstractNarrator) -> Exhibits:
    """Draw what a report shows of a run.

    Args:
        folder: the run.
        model_file: another place of its model file.
        narrator: told how it goes.

    Raises:
        CheckpointError: where the folder is no run.
    """
    read_remains(folder.path)
    noting, found = _Noting(), dict[str, Any]()
    with narrator.task(f"draw {folder.path.name}", STAGES) as task:
        with noting.trying("What its checkpoint holds"):
            loaded = load_any(folder, model_file, noting.say)
            task.to(1)
            if isinstance(loaded, LoadedFit):
                found = _of_fit(folder, loaded, noting)
            else:
                found = _of_distillation(folder, loaded, noting, task.to)
        task.to(STAGES)
    return Exhibits(**found, notes=tuple(noting.notes))


def _of_fit(folder: RunFolder, loaded: LoadedFit, noting: _Noting) -> dict[str, Any]:
    found: dict[str, Any] = {"step": loaded.step}
    fitted = loaded.fitted
    with noting.trying("Its plan"):
        found["plan"] = describe_fit(loaded.plan, compiled=False)
    with noting.trying("Its alarms in words"):
        recipe, size = loaded.plan.fit.recipe, rows_of(fitted.problem)
        found["alarms"] = _alarms(folder, lambda lines: fit_alarms(lines, recipe, size))
    if fitted.problem.generated is None:
        return found
    with noting.trying("Its samples"):
        shape = fitted.problem.output.shape
        shape = shape[1:] if fitted.by_row else shape
        x = np.asarray(fitted.sample(jax.random.key(KEY), _count(shape)))
        found |= {"samples": x.reshape(-1, *shape), "shape": shape}
    return found


def _of_distillation(
    folder: RunFolder, loaded: Loaded, noting: _Noting, advance: Callable[[int], None]
) -> dict[str, Any]:
    distilled, recipe = loaded.distilled, loaded.plan.model.recipe
    shape = distilled.problem.output.shape
    found: dict[str, Any] = {"step": loaded.step, "shape": shape, "by_sigma": _by_sigma(loaded)}
    with noting.trying("Its plan"):
        found["plan"] = describe(loaded.plan, compiled=False)
    with noting.trying("Its alarms in words"):
        found["alarms"] = _alarms(folder, lambda lines: alarms(lines, recipe))
    advance(2)
    with noting.trying("Its samples"):
        found |= _samples(distilled, shape)
        found["between"] = between(distilled, jax.random.key(KEY + 1), _steps(shape))
    advance(3)
    with noting.trying("Its posterior"):
        found |= _posterior(loaded, found.get("samples"))
    with noting.trying("Its teacher"):
        teacher = _teacher(loaded.plan.model, noting)
        if teacher is not None:
            found |= _beside(loaded, teacher, shape, lambda: advance(4))
    return found


def _count(shape: tuple[int, ...]) -> int:
    """How many samples make a picture: fewer of large images."""
    if len(shape) not in (2, 3):
        return POINTS
    return max(1, min(IMAGES, PIXELS // (shape[0] * shape[1])))


def _steps(shape: tuple[int, ...]) -> int:
    return IMAGE_STEPS if len(shape) in (2, 3) else POINT_STEPS


def _samples(distilled: Distilled, shape: tuple[int, ...]) -> dict[str, Any]:
    count, classes = _count(shape), distilled.problem.classes
    labels = None if classes is None else uniform_classes(classes, count)
    return {"samples": np.asarray(distilled.sample(jax.random.key(KEY), count, labels)), "classes": classes or 1}


def between(distilled: Distilled, key: Any, steps: int) -> np.ndarray:
    """Samples at steps from one latent to another: u = cos(t pi/2) u_0 + sin(t pi/2) u_1, which is N(0, I) at every t.

    Latents without normal base coordinates stay as they are at the start.

    Args:
        distilled: the generator.
        key: a key for the ends.
        steps: of a path.

    Returns:
        (paths, steps, *shape); one class a path where there are classes.
    """
    problem, program = distilled.problem, distilled.program
    labels = None if problem.classes is None else uniform_classes(problem.classes, PATHS)
    angles = jnp.linspace(0.0, jnp.pi / 2, steps)

    def path(path_key, label):
        start, end = (problem.draw(k, program, label) for k in jax.random.split(path_key))
        return jax.lax.map(lambda angle: problem.generate(program, turned(problem, start, end, angle), label), angles)

    return np.asarray(jax.jit(jax.vmap(path))(jax.random.split(key, PATHS), labels))


def turned(problem: Problem, start: Mapping[str, Any], end: Mapping[str, Any], angle: Any) -> dict[str, Any]:
    """Base coordinates on the way from a start to an end, by an angle of 0 to pi/2."""
    normal = {site.name for site in problem.sites if site.base == "normal"}
    return {name: jnp.cos(angle) * u + jnp.sin(angle) * end[name] if name in normal else u for name, u in start.items()}


def _posterior(loaded: Loaded, x: np.ndarray | None) -> dict[str, Any]:
    """Samples of a posterior in its model's own names, and, where the generator's density is known, corrected."""
    teacher = loaded.plan.model.teacher
    if not isinstance(teacher, Posterior) or x is None:
        return {}
    many = np.asarray(loaded.distilled.sample(jax.random.key(KEY), NAMED))
    found: dict[str, Any] = {"named": _constrained(teacher, many)}
    try:
        samples, weighted = corrected_samples(loaded, NAMED, insist=True)
    except TeacherError:  # the generator's density is not known
        return found
    return found | {"corrected": _constrained(teacher, samples.x), "reliance": weighted.word}


def _constrained(teacher: Posterior, x: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in teacher.constrained(jnp.asarray(x)).items()}


def _teacher(model: Model, noting: _Noting) -> AbstractTeacher | None:
    """The teacher where it is at hand and may be asked here; else a note says why not."""
    if not is_ready(model.teacher):
        noting.say("Its teacher is not at hand, and a report trains nothing: pplemd teacher train teaches it again.")
        return None
    teacher = ready_teacher(model.teacher, Silent())
    if parameters(teacher) > HEAVY and jax.devices()[0].platform == "cpu":
        noting.say(f"Its teacher has {parameters(teacher):,} parameters, and is not asked on a CPU.")
        return None
    return teacher


def _beside(
    loaded: Loaded, teacher: AbstractTeacher, shape: tuple[int, ...], advance: Callable[[], None]
) -> dict[str, Any]:
    """Samples of the teacher, where it can be drawn from without chains, and what the E-step does to the student's."""
    found: dict[str, Any] = {}
    if not isinstance(teacher, AbstractDensity) or isinstance(teacher, AbstractDrawnTeacher):
        found["reference"] = draw_teacher(teacher, loaded.plan.labels, KEY, count=_count(shape)).x
    advance()
    recipe = loaded.plan.model.recipe
    step = EMStep(loaded.plan.problem, teacher, recipe, loaded.plan.labels)
    pairs = corrections(step, loaded.state, typical_sigmas(recipe.sigmas), jax.random.key(KEY + 2))
    found["corrections"] = {name: (before[:PAIRS], after[:PAIRS]) for name, (before, after) in pairs.items()}
    return found


def _by_sigma(loaded: Loaded) -> dict[str, tuple[list[float], list[float]]]:
    """Step sizes that were found, and lambda of x_sigma, by range of sigma."""
    state, middles = loaded.state, list(loaded.plan.model.recipe.adaptation.middles)
    found = {}
    if state.step_sizes is not None:
        found["Step size"] = (middles, np.exp(np.asarray(state.step_sizes.log_size, float)).tolist())
    if state.centering is not None:
        found["Lambda of x"] = (middles, np.asarray(state.centering, float).tolist())
    return found


def _alarms(folder: RunFolder, judge: Judge) -> tuple[Told, ...]:
    """Each alarm in words, as it was first raised."""
    remains = read_remains(folder.path)
    history, found = remains.history, dict[str, Told]()
    for number, line in enumerate(remains.lines, 1):
        if set(line.alarms) - found.keys():
            raised = {alarm.name: alarm for alarm in judge(history[:number])}
            for name in line.alarms:
                if name in raised and name not in found:
                    found[name] = Told(step=line.step, **dataclasses.asdict(raised[name]))
    return tuple(found.values())
