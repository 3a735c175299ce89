"""The score from a denoiser is the gradient of the noised log-density, and the map inverts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.diffusion import denoised_from_score, score_from_denoised

MEANS, SPREAD = jnp.asarray([-1.0, 2.0]), 0.3
LOG_WEIGHTS = jnp.log(jnp.asarray([0.8, 0.2]))  # skewed: a flipped sign shows


def _log_terms(x_sigma: jax.Array, sigma: float) -> jax.Array:
    variance = SPREAD**2 + sigma**2
    return LOG_WEIGHTS - (x_sigma - MEANS) ** 2 / (2 * variance)


def _denoise(x_sigma: jax.Array, sigma: float) -> jax.Array:
    gain = SPREAD**2 / (SPREAD**2 + sigma**2)
    return jax.nn.softmax(_log_terms(x_sigma, sigma)) @ (MEANS + gain * (x_sigma - MEANS))


@pytest.mark.parametrize("sigma", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("point", [-2.0, 0.3, 1.7])
def test_score_is_the_gradient_of_the_noised_log_density(sigma: float, point: float) -> None:
    x_sigma = jnp.asarray(point)
    exact = jax.grad(lambda x: jax.nn.logsumexp(_log_terms(x, sigma)))(x_sigma)
    denoised = _denoise(x_sigma, sigma)
    np.testing.assert_allclose(score_from_denoised(denoised, x_sigma, sigma), exact, rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(denoised_from_score(exact, x_sigma, jnp.asarray(sigma)), denoised, rtol=1e-4, atol=1e-5)
