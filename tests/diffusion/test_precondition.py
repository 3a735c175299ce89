"""Preconditioning gives the network unit-variance input and target, and a target unrelated to its input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.diffusion import precondition
from pplemd.errors import RecipeError

SIGMA_DATA = 0.5
COUNT = 100_000


def _within(values: np.ndarray, expected: float) -> None:
    error = values.std() / np.sqrt(values.size)
    assert abs(values.mean() - expected) < 4 * error, (values.mean(), expected, error)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 2.0, 40.0])
def test_input_and_target_have_unit_variance_and_no_correlation(sigma: float) -> None:
    key_x, key_eps = jax.random.split(jax.random.key(3))
    x = np.asarray((jax.random.exponential(key_x, (COUNT,)) - 1) * SIGMA_DATA, np.float64)  # skewed, s.d. 0.5
    eps = np.asarray(jax.random.normal(key_eps, (COUNT,)), np.float64)
    x_sigma = x + sigma * eps
    coefficients = precondition(jnp.asarray(sigma), SIGMA_DATA)
    net_in = float(coefficients.scale_in) * x_sigma
    # In float64 from the float32 coefficients: at sigma 0.01 the target is a small difference over a small number.
    target = (x - float(coefficients.skip) * x_sigma) / float(coefficients.out)
    _within(net_in**2, 1.0)
    _within(target**2, 1.0)
    _within(net_in * target, 0.0)


def test_noise_is_a_quarter_of_log_sigma() -> None:
    np.testing.assert_allclose(precondition(jnp.asarray(np.e**2, jnp.float32), 0.5).noise, 0.5, rtol=1e-6)


@pytest.mark.parametrize("sigma_data", [0.0, -1.0])
def test_sigma_data_must_be_positive(sigma_data: float) -> None:
    with pytest.raises(RecipeError, match="sigma_data"):
        precondition(1.0, sigma_data)
