"""The evaluation of samples of a known Gaussian mixture."""

import numpy as np
from jaxtyping import Float, Float32, Int, Num

from pplemd.metrics.base import AbstractEvaluation, AbstractMeasure
from pplemd.metrics.modes import check_mixture, mixture_modes
from pplemd.metrics.wasserstein import sliced_wasserstein

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
