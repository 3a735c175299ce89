"""Which numbers of a site are judged: all of a small one, those that look worst of a big one."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int

ALL_UP_TO = 256  # elements that ArviZ judges one by one in about a second
WORST, SLOWEST = 160, 94  # of a bigger site; with its mean and mean square 256 in all


@dataclasses.dataclass(frozen=True)
class Judged:
    """Numbers of one site along the chains, for ArviZ.

    Attributes:
        x: the numbers: elements first, then, of a big site, the mean and the mean square over all of its elements.
        index: the flat index of each element in the site.
    """

    x: Float[np.ndarray, "chain draw judged"]
    index: Int[np.ndarray, " element"]


def judged(x: Float[np.ndarray, "chain draw element"]) -> Judged:
    """All elements of a site, or of one with more than 256 those that look worst, its mean and its mean square.

    A big site is screened in one pass over all elements: the 160 of the largest classic split R-hat and the 94 of the
    largest lag-one autocorrelation go to ArviZ, whose worst element they hold with near certainty. Mean and mean square
    stand for what moves together: many elements that drift by little each show there.

    Args:
        x: draws of a site, flattened.
    """
    elements = x.shape[2]
    if elements <= ALL_UP_TO:
        return Judged(x, np.arange(elements))
    x = x.astype(np.float64)
    spread = np.argsort(-_or_worst(split_rhat(x)), kind="stable")[:WORST]
    left = np.setdiff1d(np.arange(elements), spread)
    slow = left[np.argsort(-_or_worst(lag_one(x[..., left])), kind="stable")[:SLOWEST]]
    index = np.concatenate([spread, slow])
    with np.errstate(invalid="ignore", over="ignore"):
        together = np.stack([x.mean(axis=2), np.mean(x**2, axis=2)], axis=2)
    return Judged(np.concatenate([x[..., index], together], axis=2), index)


def split_rhat(x: Float[np.ndarray, "chain draw element"]) -> Float[np.ndarray, " element"]:
    """Classic split R-hat of every element: the s.d. of halves together over that within them.

    Source: Vehtari et al. 2021, arXiv:1903.08008, equations 1 to 4, without ranks: a screen, not the verdict.
    """
    half = x.shape[1] // 2
    halves = np.concatenate([x[:, :half], x[:, -half:]])
    with np.errstate(divide="ignore", invalid="ignore"):
        within = halves.var(axis=1, ddof=1).mean(axis=0)
        between = halves.mean(axis=1).var(axis=0, ddof=1)
        return np.sqrt((half - 1) / half + between / within)


def lag_one(x: Float[np.ndarray, "chain draw element"]) -> Float[np.ndarray, " element"]:
    """Lag-one autocorrelation of every element, around the mean of all chains."""
    with np.errstate(divide="ignore", invalid="ignore"):
        y = x - x.mean(axis=(0, 1))
        return np.mean(y[:, 1:] * y[:, :-1], axis=(0, 1)) / np.mean(y**2, axis=(0, 1))


def autocorrelation(x: Float[np.ndarray, "chain draw"], lags: int) -> Float[np.ndarray, "chain lag"]:
    """Autocorrelation of each chain around the mean of all, at lags 0 to `lags` - 1, by the Fourier transform.

    Around the common mean a chain that stays elsewhere does not decorrelate, as it would around its own.
    """
    length = x.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        y = x - x.mean()
        spectrum = np.fft.rfft(y, n=2 ** math.ceil(math.log2(2 * length)), axis=1)  # zeros behind: no wrapping around
        covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=1)[:, : min(lags, length)] / length
        return covariance / covariance[:, :1]


def _or_worst(figures: np.ndarray) -> np.ndarray:
    """NaN, of elements that are constant or not finite, as the worst."""
    return np.where(np.isnan(figures), np.inf, figures)
