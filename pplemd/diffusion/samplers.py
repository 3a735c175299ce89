"""Reverse samplers over a denoiser, written for one sample, and the grids of noise levels that they follow."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from pplemd.diffusion.convert import VPSchedule
from pplemd.errors import RecipeError


def karras_grid(steps: int, low: float, high: float, rho: float = 7.0) -> Float[Array, "{steps}+1"]:
    """Return noise levels that fall from high to low, evenly in `sigma^(1/rho)`, then 0.

    `sigma_i = (high^(1/rho) + i / (steps - 1) (low^(1/rho) - high^(1/rho)))^rho`, i < steps; `sigma_steps = 0`.

    Args:
        steps: number of sampler steps, 1 or more; with 1 the grid is (high, 0).
        low: lowest positive level, data units.
        high: first level, data units.
        rho: how far levels crowd at the low end; 1 is even spacing.

    Returns:
        The steps + 1 levels, decreasing, the last one 0.

    Raises:
        RecipeError: steps below 1, limits that are not 0 < low < high, or rho that is not positive.

    Source: arXiv:2206.00364, equation 5.
    """
    if steps < 1 or not 0 < low < high or rho <= 0:
        raise RecipeError(
            f"karras_grid: steps {steps}, low {low}, high {high}, rho {rho}; expected steps >= 1, 0 < low < high and "
            "rho > 0. Usual values are 18, 0.002, 80, 7."
        )
    ends = high ** (1 / rho), low ** (1 / rho)
    return jnp.concatenate([jnp.linspace(*ends, steps) ** rho, jnp.zeros(1)])


SPACINGS = ("leading", "trailing", "linspace")


class StepGrid(NamedTuple):
    """Noise levels of a sampler's time steps, in data units, the noisiest first."""

    visited: Float[Array, " steps"]  # where the network is evaluated
    reached: Float[Array, " steps"]  # where each step goes; the last one to 0, or to the schedule's lowest level


def step_grid(
    schedule: VPSchedule, steps: int, spacing: str = "leading", offset: int = 0, to_zero: bool = True
) -> StepGrid:
    """Return the noise levels of evenly spaced time steps of a schedule of T.

    A step goes T // steps time steps down, as diffusers' DDIMScheduler has it. Where steps do not lie so far apart
    ("linspace", or "trailing" of a number that does not divide T), that is not where the next one begins.

    Args:
        schedule: of the network that is sampled.
        steps: number of sampler steps, at most T.
        spacing: "leading" begins the steps' intervals at 0, "trailing" ends them at the last one, "linspace" goes from
            0 to the last one.
        offset: added to leading time steps.
        to_zero: whether the last step goes to level 0, or to the schedule's lowest (diffusers' set_alpha_to_one).

    Raises:
        RecipeError: more steps than the schedule has, an unknown spacing, or an offset past its end.

    Source: arXiv:2010.02502, section 5 and appendix D.2 (leading); arXiv:2305.08891, table 2 (the three).
    """
    count = len(schedule.alphas_cumprod)
    if not 1 <= steps <= count or spacing not in SPACINGS:
        raise RecipeError(
            f"step_grid: {steps} steps, spacing {spacing!r}; expected 1 to {count} steps, as many as the schedule has, "
            f"and one of {', '.join(SPACINGS)}."
        )
    if spacing == "leading":
        chosen = np.arange(steps)[::-1] * (count // steps) + offset
    elif spacing == "trailing":
        chosen = (
            np.round(np.arange(count, 0, -count / steps)[:steps]).astype(int) - 1
        )  # halves as diffusers rounds them
    else:
        chosen = np.round(np.linspace(0, count - 1, steps)).astype(int)[::-1]
    if not 0 <= chosen.min() <= chosen.max() < count:
        raise RecipeError(f"step_grid: an offset of {offset} leads past the {count} time steps. Use 0 or 1.")
    after = chosen - count // steps
    lowest = 0.0 if to_zero else schedule.sigmas[0]
    reached = np.where(after >= 0, schedule.sigmas[np.maximum(after, 0)], lowest)
    return StepGrid(jnp.asarray(schedule.sigmas[chosen], jnp.float32), jnp.asarray(reached, jnp.float32))


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
    `x'_t = alpha' clip(D) + sqrt(1 - alpha'^2) eps`. Where sigma' is not the level that the network is evaluated at
    next, x'_t is taken for one of that level, as by diffusers' DDIMScheduler.

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
