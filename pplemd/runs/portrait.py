"""The picture of a run: what its generator draws now, always from the same noise."""

import jax
import numpy as np
from PIL import Image

from pplemd.plotting.samples import draw
from pplemd.tasks.distillation import Distilled
from pplemd.tasks.evaluation import uniform_classes
from pplemd.tasks.fitting import Fitted

IMAGES, POINTS = 100, 5000  # samples in a grid of images, in a cloud of points
SEED = 20_160  # any fixed number: the same noise at every picture shows what training changes


def portrait(distilled: Distilled, seed: int = SEED) -> Image.Image:
    """A grid of images, one class after the other, or a cloud of points."""
    shape = distilled.problem.output.shape
    count = IMAGES if len(shape) == 3 else POINTS
    classes = distilled.problem.classes
    labels = None if classes is None else uniform_classes(classes, count)
    x = distilled.sample(jax.random.key(seed), count, labels)
    return draw(np.asarray(x), shape)


def fit_portrait(fitted: Fitted, count: int | None = None, seed: int = SEED) -> Image.Image | None:
    """What a fitted program generates, given nothing; None where it generates nothing."""
    if fitted.problem.generated is None:
        return None
    shape = fitted.problem.output.shape
    shape = shape[1:] if fitted.by_row else shape  # one row's
    count = count or (IMAGES if len(shape) == 3 else POINTS)
    return draw(np.asarray(fitted.sample(jax.random.key(seed), count)).reshape(-1, *shape), shape)
