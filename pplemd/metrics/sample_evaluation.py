"""The evaluation of samples against draws of any reference, and of a posterior's against long chains."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int, Num
from threadpoolctl import threadpool_limits

from pplemd.errors import DataError
from pplemd.metrics.base import AbstractEvaluation, AbstractMeasure, flat, in_deviations, same_width, take
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


MOST_OF_PAIRS = 2000  # samples of each set, for figures over pairs: their cost is quadratic

Values = Callable[[np.ndarray], dict[str, np.ndarray]]  # (count, d) -> name -> (count, *shape)


class PosteriorMeasure(AbstractMeasure):
    """Figures of samples against reference draws."""

    reference: Float32[np.ndarray, "n d"]
    source: DrawFunction  # other real samples
    values: Values | None

    def measure(
        self, x: Num[np.ndarray, "n *shape"], seed: int = 0, labels: Int[np.ndarray, " n_labels"] | None = None
    ) -> dict[str, float]:
        """mean_error, sd_error, mmd and c2st; `seed` fixes which samples the last two are of.

        mean_error: the largest |difference of means| over all of the model's numbers, in s.d. of the reference.
        sd_error: the largest |s.d. / s.d. of the reference - 1|.
        mmd: see `mmd`; c2st: see `c2st`; both in the coordinates of x, each in s.d. of the reference.
        """
        rows, reference = flat(x, "samples", 2), flat(self.reference, "reference samples", 2)
        same_width(rows, reference)
        own, known = self._numbers(x), self._numbers(self.reference)
        scale = known.std(axis=0)
        b, a = (
            part[np.random.default_rng(seed).permutation(len(part))[:MOST_OF_PAIRS]]
            for part in in_deviations(reference, rows)
        )
        return {
            "mean_error": float(np.max(np.abs(own.mean(axis=0) - known.mean(axis=0)) / scale)),
            "sd_error": float(np.max(np.abs(own.std(axis=0) / scale - 1))),
            "mmd": mmd(a, b),
            "c2st": c2st(a, b),
        }

    def _numbers(self, x: np.ndarray) -> Float[np.ndarray, "n m"]:
        """All numbers of the model, side by side; those that never vary left out."""
        named = {"x": x} if self.values is None else self.values(x)
        return _side_by_side(named)[:, self._varying(list(named))]

    def _varying(self, names: list[str]) -> np.ndarray:
        real = {"x": self.reference} if self.values is None else self.values(self.reference)
        varying = np.ptp(_side_by_side({name: real[name] for name in names}), axis=0) > 0
        if not varying.any():
            raise DataError(
                "found a reference whose numbers never vary, expected draws of a posterior: check its chains"
            )
        return varying

    def real(self, count: int, seed: int = 0) -> Float[np.ndarray, "n *shape"]:
        """Draws of chains with other seeds than the reference's."""
        return self.source(count, _FIRST_REAL_SEED + seed)

    def floor(self, seed: int = 0, labelled: bool = False) -> dict[str, float]:
        """The figures of as many draws of other chains."""
        return self.measure(self.real(len(self.reference), seed), seed)


class PosteriorEvaluation(AbstractEvaluation):
    """Judge samples of a posterior by their moments in the model's own numbers, by MMD and by a classifier."""

    draws: DrawFunction  # (count, seed) -> reference draws, as em.reference_draws gives them
    values: Values | None = None  # from x to the model's own numbers by name; None leaves x as it is
    count: int = 20000  # samples wanted; also the draws in the reference

    def prepare(self) -> PosteriorMeasure:
        """Draw the reference."""
        return PosteriorMeasure(self.draws(self.count, _REFERENCE_SEED), self.draws, self.values)


def _side_by_side(named: dict[str, np.ndarray]) -> Float64[np.ndarray, "n m"]:
    rows = [flat(value.reshape(len(value), -1).astype(np.float64), name) for name, value in named.items()]
    return np.concatenate(rows, axis=1)


def mmd(a: Float[np.ndarray, "n d_a"], b: Float[np.ndarray, "m d_b"]) -> float:
    """The maximum mean discrepancy with k(x, y) = exp(-|x - y|^2 / (2 h^2)), h^2 half the median squared distance.

    sqrt(max(0, E k(a, a') + E k(b, b') - 2 E k(a, b))), the means over pairs of different samples: near 0, and of
    either sign before it is cut, where the distributions are one.

    Raises:
        DataError: fewer than two samples of either, or unlike widths.

    Source: Gretton et al., JMLR 13 (2012), equation 3.
    """
    rows_a, rows_b = flat(a, "samples", 2), flat(b, "samples", 2)
    same_width(rows_a, rows_b)
    rows_a, rows_b = (rows - rows_b.mean(axis=0)[None] for rows in (rows_a, rows_b))  # squares far from 0 lose digits
    squares = [_squares(rows_a, rows_a), _squares(rows_b, rows_b), _squares(rows_a, rows_b)]
    width = np.median(squares[2]) or 1.0
    kernels = [np.exp(-distances / width) for distances in squares]
    own = sum((kernel.sum() - len(kernel)) / (len(kernel) * (len(kernel) - 1)) for kernel in kernels[:2])
    return float(np.sqrt(max(own - 2 * kernels[2].mean(), 0.0)))


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None, :]
    return np.maximum(lengths - 2 * a @ b.T, 0.0)


def c2st(a: Float[np.ndarray, "n d_a"], b: Float[np.ndarray, "m d_b"]) -> float:
    """How often a classifier tells samples of two distributions apart: 0.5 where it cannot, 1 where it always does.

    Logistic regression on all products of two and of three coordinates, by five-fold cross-validation: it sees
    means, covariances and skewness. Equal counts are taken of both, each coordinate in standard deviations of `b`;
    what lies more than 6 of them away counts as 6, since single samples far out would rule the products.

    Raises:
        DataError: fewer than ten samples of either, unlike widths, or NaN.

    Source: arXiv:1610.06545, section 3 (the classifier two-sample test).
    """
    from sklearn.linear_model import LogisticRegression  # here: it takes a second, which every command would wait for
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    rows_a, rows_b = flat(a, "samples of the first distribution", 10), flat(b, "samples of the second distribution", 10)
    same_width(rows_a, rows_b)
    count = min(len(rows_a), len(rows_b))
    standard_b, standard_a = in_deviations(rows_b, rows_a)
    x = np.concatenate([standard_a[:count], standard_b[:count]]).clip(-6, 6)
    label = np.repeat([0, 1], count)
    degree = 3 if x.shape[1] <= 12 else 2 if x.shape[1] <= 60 else 1  # some hundred features at most
    network = make_pipeline(PolynomialFeatures(degree), StandardScaler(), LogisticRegression(C=0.01, max_iter=200))
    order = np.random.default_rng(0).permutation(2 * count)
    with threadpool_limits(1):
        return float(np.mean(cross_val_score(network, x[order], label[order], cv=5)))
