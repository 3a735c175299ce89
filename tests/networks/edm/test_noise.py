"""Frequencies of the noise level's waves, in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import RecipeError
from pplemd.networks import FourierNoise, PositionalNoise
from pplemd.networks.edm.options import check_features, waves


@pytest.mark.parametrize(("endpoint", "steps"), [(True, 3), (False, 4)])
def test_positional_frequencies(endpoint: bool, steps: int) -> None:
    expected = 1e-4 ** (np.arange(4) / steps)
    found = waves(PositionalNoise(endpoint), jnp.asarray(0.7), 4)
    np.testing.assert_allclose(found, [np.cos(0.7 * expected), np.sin(0.7 * expected)], rtol=1e-5)


def test_fourier_frequencies_are_in_periods() -> None:
    found = waves(FourierNoise((0.25, -2.0)), 0.5, 2)
    angles = 2 * np.pi * 0.5 * np.array([0.25, -2.0])
    np.testing.assert_allclose(found, [np.cos(angles), np.sin(angles)], atol=1e-6)


def test_frequencies_without_a_checkpoint_have_the_laws_moments() -> None:
    periods = FourierNoise().rates(4000) / (2 * np.pi)
    np.testing.assert_allclose(np.sqrt(np.mean(periods.astype(float) ** 2)), 16.0, rtol=2e-3)
    np.testing.assert_allclose(np.mean(periods), 16 * np.sqrt(2 / np.pi), rtol=2e-3)


def test_waves_stay_in_32_bits() -> None:
    assert waves(PositionalNoise(), jnp.asarray(0.3, jnp.bfloat16), 4).dtype == jnp.float32


def test_mistakes_are_named() -> None:
    with pytest.raises(RecipeError, match="2 frequencies; expected 3"):
        FourierNoise((1.0, 2.0)).rates(3)
    for features in (2, 7):
        with pytest.raises(RecipeError, match="even number"):
            check_features("SongUNet", features)
