"""The contract of an evaluation, and the one check that every metric makes of its samples."""

from abc import abstractmethod

import equinox as eqx
import numpy as np
from jaxtyping import Float, Float64, Int, Num

from pplemd.errors import DataError


class AbstractMeasure(eqx.Module):
    """A prepared evaluation: holds the reference, and turns samples into named figures."""

    @abstractmethod
    def measure(
        self, x: Num[np.ndarray, "n *shape"], seed: int = 0, labels: Int[np.ndarray, " n_labels"] | None = None
    ) -> dict[str, float]:
        """The figures of these samples, in the order in which they are shown.

        Args:
            x: the samples.
            seed: fixes what is random in the figures: directions, blocks, parts of the samples.
            labels: the class that each was drawn for, where there was one.

        Raises:
            DataError: samples of another shape than the reference, too few, or NaN.
        """

    @abstractmethod
    def real(self, count: int, seed: int = 0) -> Float[np.ndarray, "n *shape"]:
        """Real samples other than the reference, `count` of them or as many as there are."""

    @abstractmethod
    def floor(self, seed: int = 0, labelled: bool = False) -> dict[str, float]:
        """The figures of real samples: the best that can be hoped for.

        The names and the order of `measure`, but for figures that need labels of data that has none.

        Args:
            seed: chooses the samples.
            labelled: whether their labels stand for the classes that samples are drawn for.
        """


class AbstractEvaluation(eqx.Module):
    """What to measure, against what: parameters only, so that declaring one costs nothing."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Samples wanted by `measure`; a field of each evaluation."""

    @abstractmethod
    def prepare(self) -> AbstractMeasure:
        """Draw or load the reference and train what the figures need."""


class Prepared(AbstractEvaluation):
    """An evaluation whose reference is at hand, for what needs it more than once."""

    declared: AbstractEvaluation
    ready: AbstractMeasure

    @property
    def count(self) -> int:
        """Samples wanted by `measure`."""
        return self.declared.count

    def prepare(self) -> AbstractMeasure:
        """The measure that was prepared."""
        return self.ready


def prepared(evaluation: AbstractEvaluation) -> Prepared:
    """The evaluation, its reference drawn or loaded now."""
    return Prepared(evaluation, evaluation.prepare())


def take(x: Num[np.ndarray, "n *shape"], count: int, seed: int) -> Num[np.ndarray, "m *shape"]:
    """Rows of `x` in random order without replacement: `count` of them, or all where there are fewer."""
    return x[np.random.default_rng(seed).permutation(len(x))[:count]]


def flat(x: Num[np.ndarray, "n *shape"], name: str, least: int = 1) -> Float64[np.ndarray, "n d"]:
    """The samples as finite float64 rows.

    Args:
        x: samples of any shape.
        name: what the message calls them.
        least: how many samples the metric needs.

    Raises:
        DataError: too few samples, no batch dimension, NaN or infinity.
    """
    if x.ndim < 2 or len(x) < least:
        raise DataError(f"found {name} of shape {x.shape}, expected (n, ...) with n >= {least}: pass more samples")
    rows = x.reshape(len(x), -1).astype(np.float64)
    bad = int((~np.isfinite(rows)).any(axis=1).sum())
    if bad:
        raise DataError(
            f"found NaN or infinity in {bad} of {len(x)} {name}, expected finite numbers: "
            "if a model made them, lower its learning rate or step size"
        )
    return rows


def in_deviations(
    real: Float64[np.ndarray, "n d"], fake: Float64[np.ndarray, "m d"]
) -> tuple[Float64[np.ndarray, "n c"], Float64[np.ndarray, "m c"]]:
    """Both sets in standard deviations of the real one, from its mean.

    What never varies among the real samples is in standard deviations of the other ones; what varies in neither and is
    the same in both is left out.

    Raises:
        DataError: nothing is left.
    """
    spread = real.std(axis=0)
    spread = np.where(spread > 0, spread, fake.std(axis=0))
    varying = (spread > 0) | (real[0] != fake[0])
    if not varying.any():
        raise DataError(
            "found two sets of samples that are one point, expected samples that vary: check what made them"
        )
    centre, units = real.mean(axis=0)[None, varying], np.where(spread > 0, spread, 1.0)[None, varying]
    return (real[:, varying] - centre) / units, (fake[:, varying] - centre) / units


def same_width(a: Float64[np.ndarray, "n d_a"], b: Float64[np.ndarray, "m d_b"]) -> None:
    """Refuse two sets of samples of unlike dimension.

    Raises:
        DataError: the widths differ.
    """
    if a.shape[1] != b.shape[1]:
        raise DataError(
            f"found samples of {a.shape[1]} and of {b.shape[1]} numbers, expected one size: check the shapes"
        )
