"""Grids of noise levels for the reverse samplers."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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

    visited: Float[Array, " steps"]  # where the network is asked
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
