"""Reverse samplers over a denoiser, written for one sample: from `x_sigma` at the grid's first level to its last."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.diffusion.grids import StepGrid
from pplemd.errors import RecipeError

Denoise = Callable[..., Array]  # denoise(x_sigma, sigma) -> the denoised sample, of x_sigma's shape


def _pairs(grid: Float[Array, " levels"]) -> tuple[Float[Array, " steps"], Float[Array, " steps"]]:
    if grid.shape[0] < 2:
        raise RecipeError(
            f"the sigma grid has {grid.shape[0]} levels; expected two or more, decreasing. "
            "Build one with karras_grid(steps, low, high)."
        )
    return grid[:-1], grid[1:]


def euler(denoise: Denoise, x_start: Float[Array, "*shape"], grid: Float[Array, " levels"]) -> Float[Array, "*shape"]:
    """Solve the probability-flow ODE `dx/dsigma = (x - D(x, sigma)) / sigma` by Euler steps.

    Args:
        denoise: `denoise(x_sigma, sigma)`, evaluated once a step, never at sigma 0.
        x_start: the noised sample at `grid[0]`, data units.
        grid: decreasing noise levels, data units; the last may be 0.

    Returns:
        The sample at `grid[-1]`.

    Raises:
        RecipeError: the grid has fewer than two levels.

    Source: arXiv:2206.00364, equation 4 with s(t) = 1, sigma(t) = t.
    """

    def step(x: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        sigma, sigma_next = pair
        return x + (sigma_next - sigma) * (x - denoise(x, sigma)) / sigma, None

    return jax.lax.scan(step, x_start, _pairs(grid))[0]


def heun(denoise: Denoise, x_start: Float[Array, "*shape"], grid: Float[Array, " levels"]) -> Float[Array, "*shape"]:
    """Solve the probability-flow ODE by Heun's second-order steps; a step to sigma 0 is an Euler step.

    Args:
        denoise: `denoise(x_sigma, sigma)`, evaluated twice a step, never at sigma 0.
        x_start: the noised sample at `grid[0]`, data units.
        grid: decreasing noise levels, data units; the last may be 0.

    Returns:
        The sample at `grid[-1]`.

    Raises:
        RecipeError: the grid has fewer than two levels.

    Source: arXiv:2206.00364, algorithm 1 with s(t) = 1, sigma(t) = t.
    """

    def slope(x: Array, sigma: Array) -> Array:
        return (x - denoise(x, sigma)) / sigma

    def step(x: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        sigma, sigma_next = pair
        width = sigma_next - sigma
        first = slope(x, sigma)
        x_euler = x + width * first
        # A cond, not a where: the grid is not batched under vmap, so the last step costs one evaluation and not two.
        return jax.lax.cond(
            sigma_next > 0, lambda: x + width * (first + slope(x_euler, sigma_next)) / 2, lambda: x_euler
        ), None

    return jax.lax.scan(step, x_start, _pairs(grid))[0]


def ddim(
    denoise: Denoise, x_start: Float[Array, "*shape"], grid: StepGrid, clip: float | None = None
) -> Float[Array, "*shape"]:
    """Sample by DDIM without noise: Euler's steps, whose denoised sample may be clipped while its noise is not.

    `x' = clip(D) + sigma' (x - D) / sigma`; in the coordinates of a variance-preserving schedule
    `x'_t = alpha' clip(D) + sqrt(1 - alpha'^2) eps`. Where sigma' is not the level that the network is asked at next,
    x'_t is taken for one of that level, as by diffusers' DDIMScheduler.

    Args:
        denoise: `denoise(x_sigma, sigma)`, evaluated once a step, never at sigma 0.
        x_start: a standard normal, x_t of the first time step.
        grid: noise levels of the time steps, data units.
        clip: largest absolute value of a denoised pixel, data units; None for no clipping.

    Returns:
        x_t of the last level that is reached; the sample itself where that is 0.

    Source: arXiv:2010.02502, equation 12 with sigma_t = 0, and equation 13.
    """

    def step(x_t: Array, levels: tuple[Array, Array]) -> tuple[Array, None]:
        sigma, sigma_next = levels
        x = x_t * jnp.sqrt(1 + sigma**2)  # x_t = alpha_t x_sigma
        denoised = denoise(x, sigma)
        kept = denoised if clip is None else jnp.clip(denoised, -clip, clip)
        return (kept + sigma_next * ((x - denoised) / sigma)) / jnp.sqrt(1 + sigma_next**2), None

    return jax.lax.scan(step, x_start, (grid.visited, grid.reached))[0]


def ancestral(
    key: Key[Array, ""], denoise: Denoise, x_start: Float[Array, "*shape"], grid: Float[Array, " levels"]
) -> Float[Array, "*shape"]:
    """Sample the reverse Markov chain: each step draws `x_{sigma'}` given `x_sigma` and the denoised sample.

    `x' = D + (sigma'/sigma)^2 (x - D) + sigma' sqrt(1 - (sigma'/sigma)^2) n`, the posterior of the forward process
    given a clean sample D.

    Args:
        key: random key.
        denoise: `denoise(x_sigma, sigma)`, evaluated once a step, never at sigma 0.
        x_start: the noised sample at `grid[0]`, data units.
        grid: decreasing noise levels, data units; the last may be 0.

    Returns:
        The sample at `grid[-1]`.

    Raises:
        RecipeError: the grid has fewer than two levels.

    Source: arXiv:2006.11239, equations 6-7, in variance-exploding coordinates.
    """

    def step(x: Array, inputs: tuple[Array, Array, Array]) -> tuple[Array, None]:
        sigma, sigma_next, key_step = inputs
        denoised = denoise(x, sigma)
        ratio = (sigma_next / sigma) ** 2
        noise = jax.random.normal(key_step, x.shape, x.dtype)
        return denoised + ratio * (x - denoised) + sigma_next * jnp.sqrt(1 - ratio) * noise, None

    sigmas, sigmas_next = _pairs(grid)
    keys = jax.random.split(key, sigmas.shape[0])
    return jax.lax.scan(step, x_start, (sigmas, sigmas_next, keys))[0]
