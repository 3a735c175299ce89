"""The last class stands for no class, and is no label any more."""

import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import TeacherError
from pplemd.teachers import DenoiserFunction, Guidance, Guided, NullClassDenoiser, unguided

INNER = DenoiserFunction(lambda x, sigma, label=7: x + jnp.asarray(label, x.dtype), (2,), 4)
X, SIGMA = jnp.ones(2), jnp.asarray(0.5)


def test_labels() -> None:
    teacher = NullClassDenoiser(INNER)
    assert (teacher.shape, teacher.classes) == ((2,), 3)
    for label, told in ((None, 3), (-1, 3), (0, 0), (2, 2), (3, 3)):
        given = None if label is None else jnp.asarray(label)
        np.testing.assert_array_equal(teacher.denoise(X, SIGMA, given), X + told)


def test_it_can_be_guided() -> None:
    guided = Guided(NullClassDenoiser(INNER), Guidance(2.0))
    np.testing.assert_allclose(guided.denoise(X, SIGMA, jnp.asarray(1)), X + 1 + (1 - 3))
    assert isinstance(unguided(guided), NullClassDenoiser)


def test_without_classes_it_is_refused() -> None:
    with pytest.raises(TeacherError, match="2 classes or more; found a DenoiserFunction with classes=None"):
        NullClassDenoiser(DenoiserFunction(lambda x, sigma: x, (2,)))
