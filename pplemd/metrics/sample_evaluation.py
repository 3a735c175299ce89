"""The evaluation of samples against draws of any reference."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float, Int, Num

from pplemd.errors import DataError
from pplemd.metrics.base import AbstractEvaluation, AbstractMeasure, flat, same_width, take
from pplemd.metrics.distances import sliced_wasserstein

_REFERENCE_SEED, _FIRST_REAL_SEED = 0, 1  # a draw function's seed 0 is kept for the reference

DrawFunction = Callable[[int, int], np.ndarray]  # (count, seed) -> (count, *shape)


class SampleMeasure(AbstractMeasure):
    """Figures of samples against reference draws."""

    reference: Float[np.ndarray, "n *shape"]
    source: Float[np.ndarray, "m *shape"] | DrawFunction  # other real samples: a pool, or the draw function
    count: int  # samples that figures are of

    def measure(
        self, x: Num[np.ndarray, "n *shape"], seed: int = 0, labels: Int[np.ndarray, " n_labels"] | None = None
    ) -> dict[str, float]:
        """sliced_w2, mean_error and std_error, all in units of the data; `seed` fixes the directions.

        The errors are the root mean square over coordinates of the difference in means and in standard deviations.
        """
        rows, reference = flat(x, "samples", 2), flat(self.reference, "reference samples", 2)
        same_width(rows, reference)
        means, deviations = rows.mean(axis=0) - reference.mean(axis=0), rows.std(axis=0) - reference.std(axis=0)
        return {
            "sliced_w2": sliced_wasserstein(rows, reference, seed=seed),
            "mean_error": float(np.sqrt(np.mean(means**2))),
            "std_error": float(np.sqrt(np.mean(deviations**2))),
        }

    def real(self, count: int, seed: int = 0) -> Float[np.ndarray, "n *shape"]:
        """Draws independent of the reference; of an array, at most the half that is not the reference."""
        if isinstance(self.source, np.ndarray):
            return take(self.source.astype(np.float32), count, seed)
        return self.source(count, _FIRST_REAL_SEED + seed)

    def floor(self, seed: int = 0, labelled: bool = False) -> dict[str, float]:
        """The figures of as many real samples as are judged, or as there are."""
        return self.measure(self.real(self.count, seed), seed)


class SampleEvaluation(AbstractEvaluation):
    """Judge samples by their distance from draws of a reference, for targets without a data set or known modes."""

    reference: Float[np.ndarray | Array, "n *shape"] | DrawFunction  # samples, or (count, seed) -> samples
    count: int = 20000  # samples wanted; also the draws of a function

    def prepare(self) -> SampleMeasure:
        """Draw the reference; of an array, a random half becomes the reference and the other half the real samples.

        Raises:
            DataError: an array of fewer than four samples.
        """
        if callable(self.reference):
            return SampleMeasure(self.reference(self.count, _REFERENCE_SEED), self.reference, self.count)
        if len(self.reference) < 4:
            raise DataError(f"found {len(self.reference)} reference samples, expected at least 4: give more")
        mixed = take(np.asarray(self.reference, np.float32), len(self.reference), _REFERENCE_SEED)
        half = len(mixed) // 2
        return SampleMeasure(mixed[:half], mixed[half:], self.count)
