"""Preconditioning of older networks: an ideal network of each kind gives the exact denoiser."""

import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.diffusion import (
    ContinuousVP,
    DiscreteVP,
    FlowVelocity,
    PlainVE,
    Prediction,
    StepFlow,
    StepVP,
    VPClean,
    VPEps,
    VPVelocity,
    cosine_levels,
    linear_schedule,
)
from pplemd.errors import RecipeError

LEVELS = cosine_levels()


@pytest.mark.parametrize(
    ("coefficients", "predicted"),
    [(ContinuousVP(), 1.0), (PlainVE(), -1.0), (DiscreteVP(LEVELS), 1.0)],
)
def test_the_noise_predicted_leaves_the_clean_sample(coefficients, predicted) -> None:
    """x_sigma = x + sigma eps, and the network says eps, or minus eps."""
    x, eps, sigma = 0.3, -1.7, jnp.asarray(2.5)
    at = coefficients.at(sigma)
    np.testing.assert_allclose(at.skip * (x + sigma * eps) + at.out * predicted * eps, x, rtol=1e-5)
    assert all(leaf.dtype == jnp.float32 for leaf in (at.skip, at.out, at.scale_in, at.noise))


@pytest.mark.parametrize("sigma", [0.02, 0.9, 40.0])
def test_steps_are_as_the_records_of_conventions(sigma) -> None:
    """A network that says what it was asked, in part."""
    schedule, x, level = linear_schedule(), jnp.asarray([0.4, -1.1]), jnp.asarray(sigma)
    cases = [
        (StepVP(schedule, Prediction.EPS), VPEps(_answer, schedule)),
        (StepVP(schedule, Prediction.CLEAN), VPClean(_answer, schedule)),
        (StepVP(schedule, Prediction.VELOCITY), VPVelocity(_answer, schedule)),
        (StepFlow(500), FlowVelocity(lambda x_t, time, label: -_answer(x_t, 500 * (1 - time), label))),
    ]
    for coefficients, record in cases:
        at = coefficients.at(level)
        found = at.skip * x + at.out * _answer(at.scale_in * x, at.noise, None)
        np.testing.assert_allclose(found, record(x, level), rtol=1e-4, atol=1e-5 * (1 + sigma))


def _answer(x, time, label):
    return 0.3 * x + jnp.sin(time / 300)


def test_what_networks_are_told() -> None:
    for time in (1e-5, 0.3, 1.0):
        sigma = np.sqrt(np.expm1(0.5 * 19.9 * time**2 + 0.1 * time))
        np.testing.assert_allclose(ContinuousVP().at(jnp.asarray(sigma)).noise, 999 * time, rtol=1e-3)
    np.testing.assert_allclose(PlainVE().at(jnp.asarray(2 * np.e)).noise, 1.0, rtol=1e-5)
    for index in (0, 8, 500, 999):
        near = jnp.asarray(LEVELS[index] * 1.0005)
        assert DiscreteVP(LEVELS).at(near).noise == 999 - index


def test_inputs_have_unit_variance() -> None:
    for coefficients in (ContinuousVP(), DiscreteVP(LEVELS)):
        np.testing.assert_allclose(coefficients.at(jnp.asarray(3.0)).scale_in, 1 / np.sqrt(10), rtol=1e-6)
    assert PlainVE().at(jnp.asarray(3.0)).scale_in == 1


def test_cosine_levels_are_the_papers() -> None:
    """EDM starts at the ninth level, sigma = 80: arXiv:2206.00364, appendix C.3.4."""
    assert len(LEVELS) == 1001
    assert LEVELS[-1] == 0
    assert abs(LEVELS[8] - 80) < 0.5
    a = np.sin(0.5 * np.pi * np.arange(1001) / 1000 / 1.008) ** 2
    expected = np.sqrt(a[-1] / a[500] * (1 + LEVELS[1000] ** 2) - 1)  # no ratio from step 500 on is clipped
    np.testing.assert_allclose(LEVELS[500], expected, rtol=1e-9)


def test_levels_that_do_not_fall_to_zero_are_refused() -> None:
    for levels in ((0.0,), (1.0, 0.5), (1.0, 2.0, 0.0), (float("nan"), 0.0)):
        with pytest.raises(RecipeError, match="fall"):
            DiscreteVP(levels)
