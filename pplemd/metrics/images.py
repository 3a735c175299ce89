"""The evaluation of generated images, or of any samples of a data set, against its held-out split."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Num

from pplemd.errors import DataError
from pplemd.metrics.base import AbstractEvaluation, AbstractMeasure, take
from pplemd.metrics.checks import flat
from pplemd.metrics.classes import class_kl
from pplemd.metrics.features import AbstractFeatures, Classifier, principal, train_classifier
from pplemd.metrics.frechet import frechet
from pplemd.metrics.further import further_figures
from pplemd.metrics.nearness import nearness
from pplemd.metrics.neighbours import precision_recall


@runtime_checkable
class SplitLike(Protocol):
    """Samples (n, *shape), float32, and their class indices or None."""

    @property
    def x(self) -> np.ndarray:
        """The samples."""

    @property
    def label(self) -> np.ndarray | None:
        """Their class indices."""


@runtime_checkable
class DatasetLike(Protocol):
    """Two splits and the number of classes, None where there are no labels."""

    @property
    def train(self) -> SplitLike:
        """What a teacher may learn from."""

    @property
    def test(self) -> SplitLike:
        """Held out."""

    @property
    def classes(self) -> int | None:
        """The number of classes."""


class ImageMeasure(AbstractMeasure):
    """Figures of images in the feature space of a classifier, or of principal components."""

    train: Float32[np.ndarray, "n_train *shape"]  # the train split
    extractor: AbstractFeatures  # learned from the train split alone
    features_train: Float32[np.ndarray, "n_train width"]
    features_test: Float32[np.ndarray, "n_test width"]
    frequencies: Float64[np.ndarray, " classes"] | None  # share of each class in the held-out split
    label_test: Int[np.ndarray, " n_test"] | None  # classes of the held-out split, where there are two or more
    k: int  # neighbours that set the radius in precision and recall

    def measure(self, x: Num[np.ndarray, "n *shape"], seed: int = 0) -> dict[str, float]:
        """frechet, precision, recall, class_kl (with labels), frechet_train and `further_figures`; nothing is random.

        The first four compare with the held-out split, frechet_train with the train split, whose larger count makes its
        upward bias smaller.
        """
        if x.shape[1:] != self.train.shape[1:]:
            raise DataError(
                f"found samples of shape {x.shape[1:]}, expected {self.train.shape[1:]}: check the generator"
            )
        flat(x, "samples", self.k + 1)
        features = self.extractor.features(x)
        near = nearness(self.features_train, self.features_test, features)
        return self._figures(features, self.features_train) | {"nearness": near}

    def real(self, count: int, seed: int = 0) -> Float[np.ndarray, "n *shape"]:
        """Train images, without replacement."""
        return take(self.train, count, seed)

    def floor(self, seed: int = 0) -> dict[str, float]:
        """The train split against the held-out split; frechet_train is that of two random halves of the train split.

        nearness is 1 by definition: that of the held-out split.
        """
        figures = self._figures(self.features_train, self.features_train)
        mixed = take(self.features_train, len(self.features_train), seed)
        half = len(mixed) // 2
        return figures | {"frechet_train": frechet(mixed[:half], mixed[half:]), "nearness": 1.0}

    def _figures(
        self, features: Float32[np.ndarray, "n width"], features_train: Float32[np.ndarray, "m width"]
    ) -> dict[str, float]:
        pair = precision_recall(self.features_test, features, self.k)
        figures = {
            "frechet": frechet(features, self.features_test),
            "precision": pair.precision,
            "recall": pair.recall,
        }
        if self.frequencies is not None and isinstance(self.extractor, Classifier):
            labels = self.extractor.labels_of(features)
            figures["class_kl"] = class_kl(labels, self.frequencies, len(self.frequencies))
        further = further_figures(self.features_test, features, self.label_test, self.k)
        return figures | {"frechet_train": frechet(features, features_train)} | further


class ImageEvaluation(AbstractEvaluation):
    """Judge samples by the features of a data set's images, against its held-out split.

    Features are the 64 hidden activations of a small classifier of the train split; without labels, or with a single
    class, they are at most 64 principal components of the train split and there is no class_kl.
    """

    dataset: DatasetLike
    count: int = 5000  # samples wanted
    k: int = (
        3  # neighbours that set the radius in precision and recall: Kynkaanniemi et al., arXiv:1904.06991, section 3
    )

    def prepare(self) -> ImageMeasure:
        """Train the classifier, or take it from the cache, and compute the features of both splits.

        Raises:
            DataError: a held-out split of no more than `k` samples.
        """
        train, test = self.dataset.train, self.dataset.test
        if len(test.x) <= self.k:
            raise DataError(f"found {len(test.x)} held-out samples, expected more than k = {self.k}: hold out more")
        extractor: AbstractFeatures
        frequencies, label = None, None
        if train.label is None or test.label is None or len(np.unique(train.label)) < 2:
            extractor = principal(train.x)
        else:
            extractor = train_classifier(train.x, train.label)
            frequencies = np.bincount(test.label, minlength=self.dataset.classes or 0) / len(test.label)
            label = test.label
        features = extractor.features(train.x), extractor.features(test.x)
        return ImageMeasure(train.x, extractor, *features, frequencies, label, self.k)
