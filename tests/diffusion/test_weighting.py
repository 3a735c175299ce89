"""Weights of the squared error: one contract for all, then what each is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.diffusion import (
    AbstractWeighting,
    EDMWeight,
    InverseVarianceWeight,
    PowerWeight,
    UniformWeight,
    precondition,
)
from pplemd.errors import RecipeError

SIGMA = jnp.asarray([[0.02, 0.5], [1.0, 30.0]])
TABLE = [EDMWeight(0.4), UniformWeight(), PowerWeight(-1), InverseVarianceWeight(0.4)]


@pytest.mark.parametrize("weight", TABLE, ids=lambda weight: type(weight).__name__)
def test_contract(weight: AbstractWeighting) -> None:
    values = jax.jit(weight)(SIGMA)
    assert values.shape == SIGMA.shape
    assert values.dtype == SIGMA.dtype
    assert (values > 0).all()
    np.testing.assert_allclose(weight(SIGMA[1, 1]), values[1, 1], rtol=1e-6)


def test_edm_weight_is_one_on_the_networks_own_error() -> None:
    coefficients = jax.vmap(lambda sigma: precondition(sigma, 0.4))(SIGMA.reshape(-1))
    np.testing.assert_allclose(EDMWeight(0.4)(SIGMA.reshape(-1)) * coefficients.out**2, 1.0, rtol=1e-5)


def test_inverse_variance_is_the_square_of_the_input_scale() -> None:
    coefficients = jax.vmap(lambda sigma: precondition(sigma, 0.4))(SIGMA.reshape(-1))
    np.testing.assert_allclose(InverseVarianceWeight(0.4)(SIGMA.reshape(-1)), coefficients.scale_in**2, rtol=1e-5)


def test_powers() -> None:
    np.testing.assert_allclose(PowerWeight(-2.0)(SIGMA) * SIGMA**2, 1.0, rtol=1e-5)
    np.testing.assert_array_equal(PowerWeight(0.0)(SIGMA), UniformWeight()(SIGMA))


@pytest.mark.parametrize("build", [lambda: EDMWeight(0.0), lambda: InverseVarianceWeight(-1.0)])
def test_sigma_data_must_be_positive(build: object) -> None:
    with pytest.raises(RecipeError, match="sigma_data"):
        build()


def test_exponent_must_be_finite() -> None:
    with pytest.raises(RecipeError, match="exponent"):
        PowerWeight(float("inf"))
