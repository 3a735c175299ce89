"""Grids of noise levels for the reverse samplers."""

import jax.numpy as jnp
from jaxtyping import Array, Float

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
