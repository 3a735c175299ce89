"""A run's samples beside its teacher's, in one picture."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from PIL import Image

from pplemd.plotting.samples import image_grid
from pplemd.plotting.scatters import scatter
from pplemd.report.reporter import AbstractNarrator
from pplemd.runs.loading import Loaded
from pplemd.tasks.evaluation import draw, draw_teacher
from pplemd.tasks.teacher_training import ready_teacher
from pplemd.teachers import AbstractTeacher, sample

EACH = 8  # images in a row, of the teacher and of the student
ROWS = 8  # where there are no classes
MOST = 16  # rows where there are
POINTS = 2000  # of each, where x is no image


def _some(classes: int) -> Int[Array, " rows"]:
    """Classes to draw: all, or as many as a picture has room for."""
    return jnp.asarray(np.linspace(0, classes - 1, min(classes, MOST)).round().astype(int))


def picture_beside(loaded: Loaded, seed: int, narrator: AbstractNarrator) -> Image.Image:
    """Images of the teacher at the left, of the generator at the right, a row for each class; or two clouds of points.

    Of many classes some are drawn, evenly apart.

    Args:
        loaded: the run.
        seed: seed of the samples.
        narrator: told how it goes.
    """
    planned = loaded.plan
    teacher, shape = ready_teacher(planned.model.teacher, narrator), planned.problem.output.shape
    if len(shape) != 3:
        drawn = draw(loaded.distilled.sample, jax.random.key(seed), POINTS, planned.labels).x
        return scatter(drawn, draw_teacher(teacher, planned.labels, seed, count=POINTS).x)
    labels = None if planned.labels is None else jnp.repeat(_some(planned.labels.classes), EACH)
    count = EACH * ROWS if labels is None else len(labels)
    with narrator.task("sample", 2) as task:
        rows = [_rows(_of_teacher(teacher, jax.random.key(seed), count, labels))]
        task.to(1)
        rows.append(_rows(np.asarray(loaded.distilled.sample(jax.random.key(seed), count, labels))))
        task.to(2)
    nothing = np.full_like(rows[0][:, :1], np.nan)  # is drawn grey
    whole = np.concatenate([rows[0], nothing, rows[1]], axis=1)
    return image_grid(whole.reshape(-1, *shape), columns=2 * EACH + 1)


def _of_teacher(teacher: AbstractTeacher, key: jax.Array, count: int, labels: jax.Array | None) -> np.ndarray:
    return np.asarray(sample(key, teacher, count, labels))


def _rows(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, EACH, *x.shape[1:])
