"""Discrete variance-preserving schedules by the names that they go by: linear, scaled linear, cosine, sigmoid."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pplemd.diffusion.convert import VPSchedule

MOST = 0.999  # of a beta of the cosine schedule: arXiv:2102.09672, section 3.2
OFFSET = 0.008  # the same source
STEEPNESS = 6.0  # the logistic curve is taken from -6 to 6: arXiv:2203.02923, its code
LAST = (
    0.25  # of the alpha^2 before it, in place of 0 at the last step, whose sigma would have no end: twice that before
)


def schedule_of(betas: Sequence[float] | Float[np.ndarray, " steps"], zero_snr: bool = False) -> VPSchedule:
    """Return the schedule `alpha_t^2 = prod_{s <= t} (1 - beta_s)`.

    Args:
        betas: variances of the steps' noise, each in (0, 1).
        zero_snr: shift and scale alpha_t so that nothing of the data is left at the last step.

    Raises:
        RecipeError: the betas do not give a schedule.

    Source: arXiv:2006.11239, equation 4; arXiv:2305.08891, algorithm 1 (zero_snr).

    Departs: with zero_snr something is left at the last step, whose sigma is twice that of the one before: it must end.
    """
    squares = np.cumprod(1 - np.asarray(betas, np.float64))
    if zero_snr and squares.size > 1:
        roots = np.sqrt(squares)
        roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
        squares = np.append(roots[:-1] ** 2, LAST * roots[-2] ** 2)
    return VPSchedule(tuple(float(square) for square in squares))


def linear_betas(steps: int, low: float, high: float) -> Float[np.ndarray, " steps"]:
    """Betas that are linear. Source: arXiv:2006.11239, section 4."""
    return np.linspace(low, high, steps)


def scaled_linear_betas(steps: int, low: float, high: float) -> Float[np.ndarray, " steps"]:
    """Betas whose square roots are linear. Source: arXiv:2112.10752's code."""
    return np.linspace(low**0.5, high**0.5, steps) ** 2


def cosine_betas(steps: int, most: float = MOST) -> Float[np.ndarray, " steps"]:
    """Betas of `alpha_t^2 = cos^2(pi / 2 (t / steps + .008) / 1.008)`, none above the most.

    Source: arXiv:2102.09672, section 3.2, equation 17.
    """
    squares = np.cos((np.arange(steps + 1) / steps + OFFSET) / (1 + OFFSET) * np.pi / 2) ** 2
    return np.minimum(1 - squares[1:] / squares[:-1], most)


def sigmoid_betas(steps: int, low: float, high: float) -> Float[np.ndarray, " steps"]:
    """Betas on a logistic curve between the ends. Source: arXiv:2203.02923, its code."""
    return low + (high - low) / (1 + np.exp(-np.linspace(-STEEPNESS, STEEPNESS, steps)))
