"""The contract of an evaluation: declared lightly, prepared once, measured as often as wanted."""

from abc import abstractmethod

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int, Num


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
