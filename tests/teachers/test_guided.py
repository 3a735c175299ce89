"""Guidance against closed forms: Gaussians by class, and the law without classes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import RecipeError, TeacherError
from pplemd.teachers import DenoiserFunction, Guidance, Guided, check, one_step, unguided

MEANS = np.array([[1.0, -0.5], [-2.0, 0.3], [0.2, 0.9]], np.float32)  # of two classes, and of none
WIDTHS = np.array([0.5, 0.7, 1.5], np.float32)


def gaussian(x_sigma, sigma, label=None):
    """E[x | x_sigma] of a normal law by class, and of a wider one without."""
    row = -1 if label is None else label
    mean, width = jnp.asarray(MEANS)[row], jnp.asarray(WIDTHS)[row]
    return (mean * sigma**2 + width**2 * x_sigma) / (width**2 + sigma**2)


TEACHER = DenoiserFunction(gaussian, (2,), 2)
X, SIGMA, LABEL = jnp.array([0.4, -1.1]), jnp.asarray(0.8), jnp.asarray(1)
LISTED, UNTOLD = (np.asarray(gaussian(X, SIGMA, label), np.float64) for label in (1, None))


@eqx.filter_jit
def denoised(guided, x, sigma, label):
    return guided.denoise(x, sigma, label)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 2.0, 4.0])
def test_the_guided_denoiser_is_linear_in_its_scale(scale):
    guided = Guided(TEACHER, Guidance(scale))
    check(guided)
    found = denoised(guided, X, SIGMA, LABEL)
    np.testing.assert_allclose(found, UNTOLD + scale * (LISTED - UNTOLD), rtol=1e-5, atol=1e-6)
    score = (UNTOLD + scale * (LISTED - UNTOLD) - np.asarray(X)) / 0.8**2
    np.testing.assert_allclose(guided.score(X, SIGMA, LABEL), score, rtol=1e-5, atol=1e-5)
    assert np.abs(LISTED - UNTOLD).min() > 0.1  # a flipped sign shows


def test_scale_one_is_the_denoiser_bit_for_bit():
    plain = eqx.filter_jit(jax.vmap(TEACHER.denoise, (None, None, 0)))(X, SIGMA, jnp.arange(2))
    found = eqx.filter_jit(jax.vmap(Guided(TEACHER, Guidance(1.0)).denoise, (None, None, 0)))(X, SIGMA, jnp.arange(2))
    np.testing.assert_array_equal(found, plain)


def test_no_label_is_the_law_without_classes():
    guided = Guided(TEACHER, Guidance(3.0))
    for label in (None, jnp.asarray(-1)):
        np.testing.assert_allclose(denoised(guided, X, SIGMA, label), UNTOLD, rtol=1e-5)


@pytest.mark.slow
def test_guidance_acts_above_low_and_up_to_high():
    guidance = Guidance(2.5, 0.25, 4.0)
    sigmas = jnp.array([0.1, 0.25, 0.26, 1.0, 4.0, 4.01])
    np.testing.assert_array_equal(jax.vmap(guidance.at)(sigmas), [1, 1, 2.5, 2.5, 2.5, 1])
    guided = Guided(TEACHER, guidance)
    found, plain, full = (
        np.stack([denoised(teacher, X, sigma, LABEL) for sigma in sigmas])
        for teacher in (guided, TEACHER, Guided(TEACHER, Guidance(2.5)))
    )
    inside = np.asarray([False, False, True, True, True, False])
    np.testing.assert_allclose(found, np.where(inside[:, None], full, plain), rtol=1e-6)
    assert np.abs(full - plain)[~inside].max() > 0.1


def test_of_another_type_it_stays():
    guided = Guided(DenoiserFunction(lambda x, sigma, label: x * sigma, (2,), 2), Guidance(2.0))
    assert guided.denoise(X.astype(jnp.bfloat16), SIGMA.astype(jnp.bfloat16), LABEL).dtype == jnp.bfloat16


def test_a_copy_of_the_teacher_is_unguided():
    """One evaluation a draw, whatever the guidance."""
    guided = Guided(Guided(TEACHER, Guidance(2.0)), Guidance(1.5))
    assert unguided(guided) is TEACHER
    assert unguided(TEACHER) is TEACHER
    np.testing.assert_allclose(one_step(guided, 0.8)(X / 0.8, LABEL), LISTED, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments", [(float("nan"),), (float("inf"),), (2.0, -0.1), (2.0, 1.0, 1.0), (2.0, 2.0, 1.0), (2.0, float("nan"))]
)
def test_a_scale_or_an_interval_that_says_nothing_is_refused(arguments):
    with pytest.raises(RecipeError, match="finite scale and 0 <= low < high"):
        Guidance(*arguments)


def test_a_denoiser_without_classes_is_refused():
    with pytest.raises(TeacherError, match="found a DenoiserFunction with condition=None"):
        Guided(DenoiserFunction(lambda x, sigma: x, (2,)), Guidance(2.0))
