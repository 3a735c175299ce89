"""What a report draws of a distillation's newest checkpoint, beyond the files of its run."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from pplemd.dsl import Problem
from pplemd.errors import TeacherError
from pplemd.report.progress import Silent
from pplemd.tasks.describing import KEY, parameters
from pplemd.tasks.drawing import corrected_samples
from pplemd.tasks.evaluation import draw_teacher
from pplemd.tasks.results import Distilled
from pplemd.tasks.teacher_training import AnyTeacher, is_ready, ready_teacher
from pplemd.teachers import AbstractDensity, AbstractDrawnTeacher, AbstractTeacher, Posterior

IMAGES, POINTS, PIXELS = 100, 1500, 1_500_000  # samples in a picture, and pixels of it
PATHS, IMAGE_STEPS, POINT_STEPS = 8, 10, 60  # between latents
PAIRS = 200  # of points before and after the E-step that are drawn
NAMED = 10_000  # samples of a posterior in its histograms
HEAVY = 50_000_000  # parameters: a teacher of more is not evaluated on a CPU, where its samples would take hours


@dataclasses.dataclass(frozen=True)
class ReportPictures:
    """A distillation's checkpoint, as a report draws it.

    Attributes:
        distilled: its generator.
        declared: its teacher, as declared.
        teacher: the same as planned; of shapes alone where it is not ready.
        corrections: draws samples before and after the algorithm's own E-step, given the ready teacher.
        note: called with a sentence about what is left out.
    """

    distilled: Distilled
    declared: AnyTeacher
    teacher: AbstractTeacher
    corrections: Callable[[AbstractTeacher, PRNGKeyArray], Mapping[str, tuple[np.ndarray, np.ndarray]]]
    note: Callable[[str], None]

    def samples(self) -> dict[str, object]:
        """Samples, and paths between their latents."""
        shape, prior = self.distilled.shape, self.distilled.conditions
        count = picture_count(shape)
        conditions = None if prior is None else prior.in_turn(count)
        x = np.asarray(self.distilled.sample(jax.random.key(KEY), count, conditions))
        steps = IMAGE_STEPS if len(shape) in (2, 3) else POINT_STEPS
        found = {"samples": x, "classes": self.distilled.problem.classes or 1}
        return found | {"between": between(self.distilled, jax.random.key(KEY + 1), steps)}

    def posterior(self) -> dict[str, object]:
        """Samples of a posterior in its model's own names; where the generator's density is known, corrected too."""
        teacher = self.declared
        if not isinstance(teacher, Posterior):
            return {}

        def named(x: np.ndarray) -> dict[str, np.ndarray]:
            return {name: np.asarray(value) for name, value in teacher.constrained(jnp.asarray(x)).items()}

        found: dict[str, object] = {"named": named(np.asarray(self.distilled.sample(jax.random.key(KEY), NAMED)))}
        try:
            samples, weighted = corrected_samples(self.distilled, self.teacher, NAMED, insist=True)
        except TeacherError:  # the generator's density is not known
            return found
        return found | {"corrected": named(samples.x), "reliance": weighted.word}

    def of_teacher(self) -> dict[str, object]:
        """Samples of the teacher, where it can be drawn from without chains, and what the E-step does to the student's.

        Where it is not at hand, or too large to be evaluated here, a note says so.
        """
        if not is_ready(self.declared):
            self.note("Its teacher is not at hand, and a report trains nothing: pplemd teacher train teaches it again.")
            return {}
        teacher = ready_teacher(self.declared, Silent())
        if parameters(teacher) > HEAVY and jax.devices()[0].platform == "cpu":
            self.note(f"Its teacher has {parameters(teacher):,} parameters, and is not evaluated on a CPU.")
            return {}
        found: dict[str, object] = {}
        if not isinstance(teacher, AbstractDensity) or isinstance(teacher, AbstractDrawnTeacher):
            count = picture_count(self.distilled.shape)
            found["reference"] = draw_teacher(teacher, self.distilled.conditions, KEY, count=count).x
        pairs = self.corrections(teacher, jax.random.key(KEY + 2))
        found["corrections"] = {name: (before[:PAIRS], after[:PAIRS]) for name, (before, after) in pairs.items()}
        return found


def picture_count(shape: tuple[int, ...]) -> int:
    """How many samples make a picture: fewer of large images."""
    if len(shape) not in (2, 3):
        return POINTS
    return max(1, min(IMAGES, PIXELS // (shape[0] * shape[1])))


def between(distilled: Distilled, key: PRNGKeyArray, steps: int) -> np.ndarray:
    """Samples at steps from one latent to another: u = cos(t pi/2) u_0 + sin(t pi/2) u_1, which is N(0, I) at every t.

    Latents without normal base coordinates stay as they are at the start.

    Args:
        distilled: the generator.
        key: a key for the ends.
        steps: of a path.

    Returns:
        (paths, steps, *shape); one condition a path where there are conditions.
    """
    problem, program = distilled.problem, distilled.program
    conditions = None if distilled.conditions is None else distilled.conditions.in_turn(PATHS)
    angles = jnp.linspace(0.0, jnp.pi / 2, steps)

    def path(path_key, condition):
        start, end = (problem.draw(k, program, condition) for k in jax.random.split(path_key))

        def x(angle: Array) -> Array:
            return distilled.codec.decode(problem.generate(program, turned(problem, start, end, angle), condition))

        return jax.lax.map(x, angles)

    return np.asarray(jax.jit(jax.vmap(path))(jax.random.split(key, PATHS), conditions))


def turned(
    problem: Problem, start: Mapping[str, Array], end: Mapping[str, Array], angle: Array | float
) -> dict[str, Array]:
    """Base coordinates on the way from a start to an end, by an angle of 0 to pi/2."""
    normal = {site.name for site in problem.sites if site.base == "normal"}
    return {name: jnp.cos(angle) * u + jnp.sin(angle) * end[name] if name in normal else u for name, u in start.items()}
