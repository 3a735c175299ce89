"""The evaluation of generated images, or of any samples of a data set, against its held-out split."""

from typing import Protocol, runtime_checkable

import equinox as eqx
import numpy as np
from jaxtyping import Float, Float32, Int, Num

from pplemd.errors import DataError
from pplemd.metrics.base import AbstractEvaluation, AbstractMeasure, flat, in_deviations, same_width, take
from pplemd.metrics.distances import class_kl, frechet, kernel_distance
from pplemd.metrics.features import AbstractFeatures, principal, train_classifier
from pplemd.metrics.neighbours import CopyTest, Region, balls, balls_around, copy_test, region
from pplemd.metrics.sample_evaluation import c2st, mmd

PAIRS = 2000  # samples of each set that figures over all pairs are of: their cost is quadratic


def feature_figures(
    real: Num[np.ndarray, "n *shape_real"], fake: Num[np.ndarray, "m *shape_fake"], k: int = 5, seed: int = 0
) -> dict[str, float]:
    """frechet, kid, kid_sd, precision, recall, density, coverage, mmd and c2st.

    kid_sd is left out where there is one block alone, of no more than 1,000 samples of each. The last two are of at
    most 2,000 samples of each, every feature in s.d. of the real ones.

    Args:
        real: features of real samples, (n, d).
        fake: features of samples to judge, (m, d).
        k: neighbours that set the radius of balls.
        seed: of blocks and of the 2,000.

    Raises:
        DataError: fewer than k + 1 (10 for c2st) samples in a set, unlike dimensions, NaN.
    """
    rows_real, rows_fake = flat(real, "real features", k + 1), flat(fake, "features", k + 1)
    same_width(rows_real, rows_fake)
    kernel, around = kernel_distance(rows_real, rows_fake, seed=seed), balls(rows_real, rows_fake, k)
    some_real, some_fake = (
        rows[np.random.default_rng(seed).permutation(len(rows))[:PAIRS]] for rows in in_deviations(rows_real, rows_fake)
    )
    return {
        "frechet": frechet(rows_fake, rows_real),
        "kid": kernel.mean,
        **({} if kernel.std is None else {"kid_sd": kernel.std}),
        "precision": around.precision,
        "recall": around.recall,
        "density": around.density,
        "coverage": around.coverage,
        "mmd": mmd(some_real, some_fake),
        "c2st": c2st(some_fake, some_real),
    }


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


class Featured(eqx.Module):
    """Images as features, with their class indices where they have some."""

    features: Float32[np.ndarray, "n width"]
    label: Int[np.ndarray, " n"] | None

    def some(self, count: int, seed: int) -> "Featured":
        """So many of them, in random order without replacement, or all where there are fewer."""
        chosen = take(np.arange(len(self.features)), count, seed)
        return Featured(self.features[chosen], None if self.label is None else self.label[chosen])


class ImageMeasure(AbstractMeasure):
    """Figures of images in a feature space."""

    x_train: Float32[np.ndarray, "n_train *shape"]  # the train split
    extractor: AbstractFeatures  # given, or learned from the train split alone
    train: Featured
    test: Featured
    region: Region  # of the held-out split
    copies: CopyTest  # of the train split, against the held-out split
    k: int  # neighbours that set the radius in precision and recall
    count: int  # samples that figures are of

    def measure(
        self, x: Num[np.ndarray, "n *shape"], seed: int = 0, labels: Int[np.ndarray, " n_labels"] | None = None
    ) -> dict[str, float]:
        """All figures, by name.

        frechet, precision, recall, density, coverage, kid, class_recall and class_kl compare with the held-out split;
        frechet_train compares with the train split, whose larger count makes its upward bias smaller. class_recall is
        that of the class that is covered least. class_accuracy is the share of samples that are read as the class that
        they were drawn for. `nearness` tells copies of training images.

        Figures of classes need labels of the data, class_accuracy labels of the samples, class_kl and class_accuracy a
        classifier.

        Args:
            x: the samples.
            seed: of the blocks of kid.
            labels: their classes, where they were drawn by class.
        """
        if x.shape[1:] != self.x_train.shape[1:]:
            raise DataError(
                f"found samples of shape {x.shape[1:]}, expected {self.x_train.shape[1:]}: check the generator"
            )
        flat(x, "samples", self.k + 1)
        samples = Featured(self.extractor.features(x), labels)
        to_train = frechet(samples.features, self.train.features)
        return self._figures(samples, self._accuracy(samples), to_train, self.copies.nearness(samples.features), seed)

    def real(self, count: int, seed: int = 0) -> Float[np.ndarray, "n *shape"]:
        """Train images, without replacement."""
        return take(self.x_train, count, seed)

    def floor(self, seed: int = 0, labelled: bool = False) -> dict[str, float]:
        """The train split against the held-out split, of no more images than samples are judged.

        frechet_train is that of so many of the train split (half of it at most) against its rest, class_accuracy that
        of the held-out split, by its own labels: the classifier has not seen it; without them it is left out. nearness
        is 1 by definition: that of the held-out split.
        """
        some = Featured(self.train.some(self.count, seed).features, None)
        mixed = self.train.some(len(self.train.features), seed).features
        part = min(self.count, len(mixed) // 2)
        accuracy = self._accuracy(self.test) if labelled else None
        return self._figures(some, accuracy, frechet(mixed[:part], mixed[part:]), 1.0, seed)

    def _figures(
        self, samples: Featured, accuracy: float | None, frechet_train: float, nearness: float, seed: int
    ) -> dict[str, float]:
        features, label = samples.features, self.test.label
        around = balls_around(self.region, features, self.k)
        figures = {
            "frechet": frechet(features, self.test.features),
            "precision": around.precision,
            "recall": around.recall,
        }
        read = self.extractor.labels_of(features)
        if read is not None and label is not None:
            classes = 1 + max(int(read.max()), int(label.max()))
            figures["class_kl"] = class_kl(read, np.bincount(label, minlength=classes) / len(label), classes)
        figures |= {} if accuracy is None else {"class_accuracy": accuracy}
        kid = kernel_distance(features, self.test.features, blocks=10, seed=seed).mean
        figures |= {"frechet_train": frechet_train, "density": around.density, "coverage": around.coverage, "kid": kid}
        if label is not None and len(np.unique(label)) > 1:
            figures["class_recall"] = min(around.recall_of(label).values())
        return figures | {"nearness": nearness}

    def _accuracy(self, samples: Featured) -> float | None:
        """Share of the samples that are read as their label, where that is known."""
        read = self.extractor.labels_of(samples.features)
        return None if read is None or samples.label is None else float((read == samples.label).mean())


class ImageEvaluation(AbstractEvaluation):
    """Judge samples by features of images, against the held-out split of a data set.

    By default features are the 64 hidden activations of a small classifier of the train split; without labels, or with
    a single class, they are at most 64 principal components of the train split, which know no classes.
    """

    dataset: DatasetLike
    count: int = 5000  # samples wanted
    k: int = (
        3  # neighbours that set the radius in precision and recall: Kynkaanniemi et al., arXiv:1904.06991, section 3
    )
    features: AbstractFeatures | None = None  # given, as by em.features(path); None for those of the train split

    def prepare(self) -> ImageMeasure:
        """Train the classifier where none is given, or take it from the cache; compute the features of both splits.

        Raises:
            DataError: a held-out split of no more than `k` samples, or half of it in the train split.
        """
        train, test = self.dataset.train, self.dataset.test
        if len(test.x) <= self.k:
            raise DataError(f"found {len(test.x)} held-out samples, expected more than k = {self.k}: hold out more")
        extractor = self.features or _learned(train)
        seen, held_out = (Featured(extractor.features(split.x), split.label) for split in (train, test))
        around = region(held_out.features, self.k, "held-out samples")
        copies = copy_test(seen.features, held_out.features)
        return ImageMeasure(train.x, extractor, seen, held_out, around, copies, self.k, self.count)


def _learned(train: SplitLike) -> AbstractFeatures:
    """Features of the train split's own."""
    if train.label is None or len(np.unique(train.label)) < 2:
        return principal(train.x)
    return train_classifier(train.x, train.label)
