"""Laws of the noise level: one contract for all, then the moments and limits of each."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.diffusion import AbstractSigmas, CoarseToFine, LogNormal, LogUniform
from pplemd.errors import RecipeError

COUNT = 4_000
TABLE = [LogNormal(), LogNormal(0.5, 0.3), LogUniform(0.1, 8), CoarseToFine(), CoarseToFine((2.0, 9.0), (0.1, 0.4), 1)]


@pytest.mark.parametrize("law", TABLE, ids=lambda law: repr(law))
def test_contract(law: AbstractSigmas) -> None:
    traced_once = eqx.debug.assert_max_traces(lambda key, progress: law.sample(key, (COUNT, 2), progress), max_traces=1)
    draw = eqx.filter_jit(traced_once)
    low, high = law.span
    assert 0 < low < high
    for progress in (0.0, 0.5, 1.0):
        sigma = draw(jax.random.key(1), jnp.asarray(progress))
        assert sigma.shape == (COUNT, 2)
        assert sigma.dtype == jnp.float32
        inside = (sigma >= low * (1 - 1e-5)) & (sigma <= high * (1 + 1e-5))
        assert inside.mean() > 0.99
        np.testing.assert_allclose(sigma, law.sample(jax.random.key(1), (COUNT, 2), progress), rtol=1e-5)
    assert not np.allclose(sigma, draw(jax.random.key(2), jnp.asarray(1.0)))


def _check_log_moments(sigma: jax.Array, mean: float, std: float) -> None:
    logs = np.log(np.asarray(sigma, np.float64))
    error = std / np.sqrt(logs.size)
    assert abs(logs.mean() - mean) < 4 * error
    assert abs(logs.std() - std) < 4 * error  # the s.e. of a normal's s.d. is error / sqrt(2), a uniform's smaller


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_log_normal_has_its_mean_and_std_at_any_progress(progress: float) -> None:
    _check_log_moments(LogNormal(-0.7, 0.9).sample(jax.random.key(0), (COUNT,), progress), -0.7, 0.9)


def _check_log_uniform(sigma: jax.Array, low: float, high: float) -> None:
    width = np.log(high / low)
    _check_log_moments(sigma, (np.log(low) + np.log(high)) / 2, width / np.sqrt(12))
    logs = np.log(np.asarray(sigma, np.float64) / low) / width
    assert -1e-5 < logs.min() < 12 / COUNT  # exp(-12) that no draw comes this near to a limit
    assert 1 - 12 / COUNT < logs.max() < 1 + 1e-5


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_log_uniform_fills_its_limits_at_any_progress(progress: float) -> None:
    _check_log_uniform(LogUniform(0.02, 5.0).sample(jax.random.key(0), (COUNT,), progress), 0.02, 5.0)


@pytest.mark.parametrize(
    ("progress", "low", "high"),
    [(0.0, 1.0, 8.0), (0.3, 0.2, 4.0), (0.15, 0.2**0.5, 32**0.5), (0.6, 0.04, 2.0), (1.0, 0.04, 2.0)],
)
def test_coarse_to_fine_slides_geometrically_then_stays(progress: float, low: float, high: float) -> None:
    law = CoarseToFine((1.0, 8.0), (0.04, 2.0), 0.6)
    _check_log_uniform(law.sample(jax.random.key(0), (COUNT,), progress), low, high)
    assert law.span == (0.04, 8.0)


def test_spanning_scales_with_the_data_and_reaches_below_its_detail() -> None:
    law, larger = CoarseToFine.spanning(4.0, 0.15), CoarseToFine.spanning(40.0, 1.5, until=0.5)
    assert (law.start, law.end, law.until) == ((1.0, 6.0), (0.075, pytest.approx(2.4)), 0.7)
    assert (*larger.start, *larger.end) == pytest.approx((10.0, 60.0, 0.75, 24.0))
    assert larger.until == 0.5


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (lambda: LogNormal(0.0, 0.0), "std 0.0"),
        (lambda: LogNormal(float("nan"), 1.0), "mean nan"),
        (lambda: LogUniform(0.0, 1.0), r"\(0.0, 1.0\)"),
        (lambda: LogUniform(2.0, 1.0), r"\(2.0, 1.0\)"),
        (lambda: CoarseToFine(start=(3.0, 2.0)), "start"),
        (lambda: CoarseToFine(end=(-1.0, 2.0)), "end"),
        (lambda: CoarseToFine.spanning(1.0, 2.0), "radius is 1.0, detail 2.0"),
        (lambda: CoarseToFine.spanning(1.0, 0.0), "detail 0.0"),
        (lambda: CoarseToFine(until=0.0), "until is 0.0"),
        (lambda: CoarseToFine(until=1.5), "until is 1.5"),
    ],
)
def test_bad_arguments_are_named(build: object, found: str) -> None:
    with pytest.raises(RecipeError, match=found):
        build()
