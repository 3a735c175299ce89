"""Exact predictions of a Gaussian law in every convention convert to one and the same denoiser."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.diffusion import (
    FlowClean,
    FlowVelocity,
    Rescaled,
    VEScore,
    VPClean,
    VPEps,
    VPSchedule,
    VPVelocity,
    linear_schedule,
)
from pplemd.errors import RecipeError

MEAN, SPREAD = jnp.asarray([1.5, -0.4, 0.2]), 0.6
SCHEDULE = linear_schedule()
STEPS = [30, 250, 600, 999]


def _exact(x_sigma: jax.Array, sigma: float) -> jax.Array:
    return MEAN + SPREAD**2 / (SPREAD**2 + sigma**2) * (x_sigma - MEAN)


def _posterior(x_t: jax.Array, signal: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The means of x and of n given x_t = signal x + noise n, for x ~ N(MEAN, SPREAD^2) and standard normal n."""
    residual = (x_t - signal * MEAN) / (signal**2 * SPREAD**2 + noise**2)
    return MEAN + signal * SPREAD**2 * residual, noise * residual


def _vp_levels(time: jax.Array) -> tuple[jax.Array, jax.Array]:
    cumulative = jnp.asarray(SCHEDULE.alphas_cumprod)[jnp.round(time).astype(int)]
    return jnp.sqrt(cumulative), jnp.sqrt(1 - cumulative)


def _eps(x_t: jax.Array, time: jax.Array, label: object) -> jax.Array:
    return _posterior(x_t, *_vp_levels(time))[1]


def _velocity(x_t: jax.Array, time: jax.Array, label: object) -> jax.Array:
    signal, noise = _vp_levels(time)
    clean, eps = _posterior(x_t, signal, noise)
    return signal * eps - noise * clean


def _clean(x_t: jax.Array, time: jax.Array, label: object) -> jax.Array:
    return _posterior(x_t, *_vp_levels(time))[0]


def _flow_velocity(x_t: jax.Array, time: jax.Array, label: object) -> jax.Array:
    clean, noise = _posterior(x_t, time, 1 - time)
    return clean - noise


def _flow_clean(x_t: jax.Array, time: jax.Array, label: object) -> jax.Array:
    return _posterior(x_t, time, 1 - time)[0]


def _score(x_sigma: jax.Array, sigma: jax.Array, label: object) -> jax.Array:
    return -(x_sigma - MEAN) / (SPREAD**2 + sigma**2)


def _build(name: str, sign: float = 1.0) -> Callable[..., jax.Array]:
    table = {
        "eps": (_eps, lambda network: VPEps(network, SCHEDULE)),
        "v": (_velocity, lambda network: VPVelocity(network, SCHEDULE)),
        "x0": (_clean, lambda network: VPClean(network, SCHEDULE)),
        "flow v": (_flow_velocity, FlowVelocity),
        "flow x1": (_flow_clean, FlowClean),
        "score": (_score, VEScore),
    }
    predict, convert = table[name]
    return convert(lambda x_t, time, label: sign * predict(x_t, time, label))


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", ["eps", "v", "x0", "flow v", "flow x1", "score"])
def test_exact_predictions_give_the_exact_denoiser(name: str, step: int) -> None:
    sigma = float(SCHEDULE.sigmas[step])
    x_sigma = MEAN + jnp.asarray([0.3, -1.2, 2.0]) * float(np.hypot(SPREAD, sigma))
    exact = _exact(x_sigma, sigma)
    # D is a difference of terms as large as x_sigma: 1e-5 of the larger scale, and no worse.
    tolerance = 1e-5 * max(1.0, sigma)
    denoised = jax.jit(_build(name))(x_sigma, jnp.asarray(sigma, jnp.float32))
    np.testing.assert_allclose(denoised, exact, atol=tolerance, rtol=0)
    assert np.abs(_build(name, -1.0)(x_sigma, sigma) - exact).max() > 0.01, "a flipped sign must show"


def test_schedule_time_inverts_its_sigmas_and_clamps() -> None:
    times = jax.vmap(SCHEDULE.time)(jnp.asarray(SCHEDULE.sigmas, jnp.float32))
    np.testing.assert_allclose(times, np.arange(1000), atol=2e-2)  # float32 log of neighbours 1e-4 apart
    between = np.sqrt(SCHEDULE.sigmas[500] * SCHEDULE.sigmas[501])
    np.testing.assert_allclose(SCHEDULE.time(float(between)), 500.5, atol=2e-2)
    low, high = SCHEDULE.span
    assert float(SCHEDULE.time(low / 2)) == 0
    assert float(SCHEDULE.time(high * 2)) == 999


def test_the_time_of_a_step_s_own_sigma_is_the_step() -> None:
    times = jax.vmap(SCHEDULE.time)(jnp.asarray(SCHEDULE.sigmas, jnp.float32))
    np.testing.assert_array_equal(times, np.arange(1000))


def test_linear_schedule_is_that_of_its_source() -> None:
    np.testing.assert_allclose(SCHEDULE.alphas_cumprod[0], 1 - 1e-4, rtol=1e-7)
    np.testing.assert_allclose(SCHEDULE.alphas_cumprod[-1], 4.0358e-5, rtol=1e-3)  # exp(sum log(1 - beta))


def test_the_label_and_the_noise_level_reach_the_network() -> None:
    seen = []

    def network(x: jax.Array, time: jax.Array, label: int) -> jax.Array:
        seen.append((float(time), label))
        return x

    for name in (FlowVelocity(network), FlowClean(network), VPEps(network, SCHEDULE), VPClean(network, SCHEDULE)):
        name(jnp.ones(2), 3.0, 7)
    expected = float(SCHEDULE.time(3.0))
    assert seen == [(0.25, 7), (0.25, 7), (expected, 7), (expected, 7)]


def test_schedule_holds_no_array_that_training_would_move() -> None:
    assert jax.tree.leaves(SCHEDULE) == []


@pytest.mark.parametrize("alphas", [(0.9,), (0.9, 0.95), (0.9, 0.9), (1.0, 0.5), (0.5, 0.0)])
def test_a_bad_schedule_is_named(alphas: tuple[float, ...]) -> None:
    with pytest.raises(RecipeError, match="alphas_cumprod"):
        VPSchedule(alphas)


@pytest.mark.parametrize("sigma", [0.05, 1.0, 30.0])
def test_rescaled_units(sigma: float) -> None:
    """A denoiser of u = (x - shift) / scale serves x."""
    scale, shift = 2.0, -1.0

    def inner(u_sigma: jax.Array, sigma: jax.Array, label: object) -> jax.Array:
        mean, spread = (MEAN - shift) / scale, SPREAD / scale
        return mean + spread**2 / (spread**2 + sigma**2) * (u_sigma - mean)

    x_sigma = MEAN + jnp.asarray([0.3, -1.2, 2.0]) * float(np.hypot(SPREAD, sigma))
    np.testing.assert_allclose(Rescaled(inner, scale, shift)(x_sigma, sigma), _exact(x_sigma, sigma), atol=1e-5)
    assert np.abs(Rescaled(inner, scale, -shift)(x_sigma, sigma) - _exact(x_sigma, sigma)).max() > 1e-3


@pytest.mark.parametrize("scale", [0.0, -2.0, float("nan")])
def test_a_scale_that_turns_data_around_is_refused(scale: float) -> None:
    with pytest.raises(RecipeError, match="positive factor"):
        Rescaled(FlowClean(_flow_clean), scale, 0.0)
