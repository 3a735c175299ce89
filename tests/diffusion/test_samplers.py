"""The samplers on a Gaussian law, whose flow and whose reverse chain are known in closed form."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.diffusion import StepGrid, ancestral, ddim, euler, heun, karras_grid
from pplemd.errors import RecipeError

MEAN, SPREAD = 1.3, 0.5
LOW, HIGH = 0.1, 5.0


def _denoise(x_sigma: jax.Array, sigma: jax.Array) -> jax.Array:
    return MEAN + SPREAD**2 / (SPREAD**2 + sigma**2) * (x_sigma - MEAN)


def _ddim(denoise: Callable[..., jax.Array], x: jax.Array, grid: jax.Array) -> jax.Array:
    """DDIM from one x_sigma to another: it goes by x_t itself."""
    return jnp.sqrt(1 + grid[-1] ** 2) * ddim(denoise, x / jnp.sqrt(1 + grid[0] ** 2), StepGrid(grid[:-1], grid[1:]))


def _error(solve: Callable[..., jax.Array], steps: int) -> float:
    x_start = jnp.asarray([MEAN + 4.0, MEAN - 7.0])
    grid = karras_grid(steps + 1, LOW, HIGH)[:-1]
    exact = MEAN + (x_start - MEAN) * np.sqrt((LOW**2 + SPREAD**2) / (HIGH**2 + SPREAD**2))
    return float(np.abs(jax.jit(lambda x: solve(_denoise, x, grid))(x_start) - exact).max())


@pytest.mark.parametrize(("solve", "order", "steps"), [(euler, 1, 64), (_ddim, 1, 64), (heun, 2, 16)])
def test_order_of_convergence(solve: Callable[..., jax.Array], order: int, steps: int) -> None:
    errors = [_error(solve, steps * 2**i) for i in range(3)]
    orders = np.log2(np.asarray(errors[:-1]) / np.asarray(errors[1:]))
    np.testing.assert_allclose(orders, order, atol=0.25)
    assert errors[-1] < 0.05


@pytest.mark.parametrize(("solve", "evaluations"), [(euler, 6), (_ddim, 6), (heun, 11)])
def test_evaluations_are_counted_and_never_at_zero(solve: Callable[..., jax.Array], evaluations: int) -> None:
    seen = []

    def denoise(x_sigma: jax.Array, sigma: jax.Array) -> jax.Array:
        jax.debug.callback(lambda value: seen.append(float(value)), sigma)
        return _denoise(x_sigma, sigma)

    grid = karras_grid(6, LOW, HIGH)
    out = jax.vmap(lambda x: solve(denoise, x, grid))(jnp.ones((3, 2)))
    jax.effects_barrier()
    assert set(seen) == {float(sigma) for sigma in grid[:-1]}
    assert len(seen) in (evaluations, 3 * evaluations)  # once for the batch, or once for each of its samples
    assert np.isfinite(out).all()


def test_the_last_step_to_zero_is_the_denoised_sample() -> None:
    x = jnp.asarray([0.2, 3.0])
    for solve in (euler, heun):
        np.testing.assert_allclose(
            solve(_denoise, x, jnp.asarray([0.7, 0.0])), _denoise(x, jnp.asarray(0.7)), rtol=1e-5
        )


def test_one_ancestral_step_is_the_posterior_of_the_forward_chain() -> None:
    sigma, sigma_next, clean, x = 1.5, 0.6, -0.8, 2.0
    added = sigma**2 - sigma_next**2  # Bayes: a N(clean, sigma_next^2) prior seen through noise of this variance
    precision = 1 / sigma_next**2 + 1 / added
    mean, std = (clean / sigma_next**2 + x / added) / precision, precision**-0.5
    keys = jax.random.split(jax.random.key(0), 4_000)
    grid = jnp.asarray([sigma, sigma_next])
    constant = lambda x_sigma, sigma: jnp.full_like(x_sigma, clean)  # noqa: E731
    draws = np.asarray(jax.vmap(lambda key: ancestral(key, constant, jnp.asarray(x), grid))(keys), np.float64)
    assert abs(draws.mean() - mean) < 4 * std / np.sqrt(draws.size)
    assert abs(draws.std() - std) < 4 * std / np.sqrt(2 * draws.size)


def test_ancestral_chain_ends_in_the_law() -> None:
    count = 4_000
    key_start, key_chain = jax.random.split(jax.random.key(1))
    x_start = MEAN + np.hypot(SPREAD, HIGH) * jax.random.normal(key_start, (count,))
    grid = karras_grid(500, 0.01, HIGH)
    run = jax.jit(jax.vmap(lambda key, x: ancestral(key, _denoise, x, grid)))
    draws = np.asarray(run(jax.random.split(key_chain, count), x_start), np.float64)
    assert abs(draws.mean() - MEAN) < 4 * SPREAD / np.sqrt(count)
    # 500 steps leave the s.d. about 1 % low, since a step draws around D and not from the posterior of x.
    assert abs(draws.std() - SPREAD) < 4 * SPREAD / np.sqrt(2 * count) + 0.01 * SPREAD


@pytest.mark.parametrize("solve", [euler, heun, lambda *args: ancestral(jax.random.key(0), *args)])
def test_samplers_keep_shape_and_dtype(solve: Callable[..., jax.Array]) -> None:
    out = solve(_denoise, jnp.ones((4, 4, 1)), karras_grid(3, LOW, HIGH))
    assert out.shape == (4, 4, 1)
    assert out.dtype == jnp.float32
    with pytest.raises(RecipeError, match="1 levels"):
        solve(_denoise, jnp.ones(2), jnp.ones(1))


def test_ddim_is_euler_and_clips_the_denoised_sample_alone() -> None:
    x, grid = jnp.asarray([2.0, -9.0, 0.3]), karras_grid(5, LOW, HIGH)
    np.testing.assert_allclose(_ddim(_denoise, x, grid), euler(_denoise, x, grid), atol=1e-5)
    x_t = x / jnp.sqrt(1 + HIGH**2)
    last = StepGrid(jnp.asarray([HIGH]), jnp.asarray([LOW]))
    denoised = _denoise(x, HIGH)
    expected = (jnp.clip(denoised, -1.25, 1.25) + LOW * (x - denoised) / HIGH) / np.sqrt(1 + LOW**2)
    np.testing.assert_allclose(ddim(_denoise, x_t, last, 1.25), expected, atol=1e-5)
    assert np.abs(ddim(_denoise, x_t, last) - expected).max() > 0.01
