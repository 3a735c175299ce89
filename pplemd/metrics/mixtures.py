"""The evaluation of samples of a known Gaussian mixture: which modes they found, and how well."""

import math

import equinox as eqx
import numpy as np
from jaxtyping import Float, Float32, Int, Num
from scipy.special import gammainccinv, rel_entr

from pplemd.errors import DataError
from pplemd.metrics.base import AbstractEvaluation, AbstractMeasure, flat, same_width
from pplemd.metrics.distances import sliced_wasserstein

DUE_SHARE = 0.25  # a mode is found when at least this part of the samples due to it are sharp ones of its own
SHARP_DEVIATIONS = 4.0  # of the mode, in up to two dimensions


class ModeFigures(eqx.Module):
    """How samples fill the modes of a mixture."""

    found: int  # modes with at least a quarter of the sharp samples due to them
    sharp: float  # share of samples close to a mode, in [0, 1]
    kl: float  # KL(shares of the nearest modes || weights) in nats


def sharp_radius(dimension: int) -> float:
    """How far, in standard deviations, a sample may lie from its mode and still be sharp.

    4 in one and two dimensions; above, the radius that holds the same share of a Gaussian as 4 does in two,
    1 - exp(-8) = 0.99966, since in d dimensions exact draws lie near sqrt(d).
    """
    outside = math.exp(-(SHARP_DEVIATIONS**2) / 2)
    squared = 2.0 * gammainccinv(dimension / 2, outside)  # the chi-squared quantile, without the slow scipy.stats
    return max(SHARP_DEVIATIONS, float(np.sqrt(squared)))


def check_mixture(
    means: Float[np.ndarray, "modes d"], weights: Float[np.ndarray, " n_weights"], std: Float[np.ndarray, " n_std"]
) -> None:
    """Refuse parameters that are not a mixture's.

    Raises:
        DataError: counts that differ, weights that are not positive shares of 1, or standard deviations not above 0.
    """
    count = len(means)
    if weights.shape != (count,) or not (weights.min() > 0.0 and abs(weights.sum() - 1.0) < 1e-4):
        raise DataError(
            f"found weights of shape {weights.shape} and sum {weights.sum():.4g}, expected {count} positive shares "
            "of 1: divide them by their sum, and drop modes of weight 0"
        )
    if std.shape != (count,) or not np.all(std > 0.0):
        raise DataError(f"found standard deviations {std}, expected {count} numbers above 0: give one for each mode")


def mixture_modes(
    x: Num[np.ndarray, "n *shape"],
    means: Float[np.ndarray, "modes d"],
    weights: Float[np.ndarray, " n_weights"],
    std: Float[np.ndarray, " n_std"],
) -> ModeFigures:
    """Modes found, sharpness and the divergence of mode shares.

    Each sample belongs to the mode that is nearest in that mode's standard deviations. It is sharp within
    `sharp_radius` of it. A mode is found when its sharp samples are at least a quarter of weight * n.

    Args:
        x: samples, (n, d) or of any shape of d numbers.
        means: centre of each mode.
        weights: share of each mode, positive, summing to 1.
        std: standard deviation of each (isotropic) mode.

    Returns:
        The figures.

    Raises:
        DataError: no samples, NaN, unlike dimensions, or parameters that are not a mixture's.
    """
    check_mixture(means, weights, std)
    rows, centres = flat(x, "samples"), flat(means, "means")
    same_width(rows, centres)
    scaled = np.stack(
        [
            np.sqrt(((rows - centre[None, :]) ** 2).sum(axis=1)) / scale
            for centre, scale in zip(centres, std, strict=True)
        ],
        axis=1,
    )
    nearest = scaled.argmin(axis=1)
    sharp = scaled.min(axis=1) <= sharp_radius(rows.shape[1])
    counts = np.bincount(nearest[sharp], minlength=len(centres))
    share = np.bincount(nearest, minlength=len(centres)) / len(rows)
    found = int((counts >= DUE_SHARE * weights * len(rows)).sum())
    return ModeFigures(found, float(sharp.mean()), float(rel_entr(share, weights.astype(np.float64)).sum()))


_REFERENCE, _REAL = 0, 1  # streams of draws: the reference never shares one with `real`


class MixtureMeasure(AbstractMeasure):
    """Figures of samples against exact draws of the mixture."""

    means: Float[np.ndarray, "modes d"]
    weights: Float[np.ndarray, " modes"]
    std: Float[np.ndarray, " modes"]
    reference: Float32[np.ndarray, "n d"]  # exact draws, of a fixed seed

    def measure(
        self, x: Num[np.ndarray, "n *shape"], seed: int = 0, labels: Int[np.ndarray, " n_labels"] | None = None
    ) -> dict[str, float]:
        """Modes (a count), sharp, weight_kl and sliced_w2; `seed` fixes its directions."""
        figures = mixture_modes(x, self.means, self.weights, self.std)
        return {
            "modes": float(figures.found),
            "sharp": figures.sharp,
            "weight_kl": figures.kl,
            "sliced_w2": sliced_wasserstein(x, self.reference, seed=seed),
        }

    def real(self, count: int, seed: int = 0) -> Float[np.ndarray, "n *shape"]:
        """Exact draws, independent of the reference."""
        return _draw(self.means, self.weights, self.std, count, (_REAL, seed))

    def floor(self, seed: int = 0, labelled: bool = False) -> dict[str, float]:
        """The figures of as many exact draws as the reference has."""
        return self.measure(self.real(len(self.reference), seed), seed)


class MixtureEvaluation(AbstractEvaluation):
    """Judge samples of a mixture of isotropic Gaussians by its modes and by exact draws.

    Raises:
        DataError: counts that differ, weights that are not positive shares of 1, or a standard deviation not above 0.
    """

    means: Float[np.ndarray, "modes d"]  # centre of each mode
    weights: Float[np.ndarray, " n_weights"]  # share of each mode, summing to 1
    std: Float[np.ndarray, " n_std"] | float | np.floating  # standard deviation of each mode, or of all
    count: int = 20000  # samples wanted; also the exact draws in the reference

    def __check_init__(self) -> None:
        """Refuse parameters that are not a mixture's."""
        check_mixture(self.means, self.weights, self._deviations())

    def _deviations(self) -> Float[np.ndarray, " n_std"]:
        return np.full(len(self.means), self.std) if np.ndim(self.std) == 0 else np.asarray(self.std)

    def prepare(self) -> MixtureMeasure:
        """Draw the reference."""
        std = self._deviations()
        reference = _draw(self.means, self.weights, std, self.count, (_REFERENCE, 0))
        return MixtureMeasure(self.means, self.weights, std, reference)


def _draw(
    means: np.ndarray, weights: np.ndarray, std: np.ndarray, count: int, seed: tuple[int, int]
) -> Float32[np.ndarray, "n d"]:
    rng = np.random.default_rng(seed)
    shares = weights.astype(np.float64)
    mode = rng.choice(len(means), size=count, p=shares / shares.sum())
    eps = rng.standard_normal((count, means.shape[1]))
    return (means[mode] + std[mode][:, None] * eps).astype(np.float32)
