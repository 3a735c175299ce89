"""Data sets: a split, two splits, the seeded held-out split; and scikit-learn's digits, which need no download."""

import hashlib
import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike

import equinox as eqx
import numpy as np
from jaxtyping import Float, Int, Shaped

from pplemd.errors import DataError


@contextmanager
def naming(place: str | PathLike[str]) -> Iterator[None]:
    """In a `with` block, every DataError begins with the place of the data that are wrong.

    Args:
        place: a file, or an array or a line of it.

    Raises:
        DataError: what the block raised, with its place.
    """
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from error


def listed(names: list[str], most: int = 5) -> str:
    """Return the first few names and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def check_finite(x: Shaped[np.ndarray, "n *shape"]) -> None:
    """See that no sample holds NaN or infinity.

    Raises:
        DataError: with the number of such samples, and the index of the first and of its first such number.
    """
    if x.dtype.kind != "f" or np.isfinite(x.sum(dtype=np.float64)):  # one pass, and no array of booleans
        return
    rows = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
    if not len(rows):  # finite numbers whose sum overflows
        return
    inner = tuple(int(i) for i in np.argwhere(~np.isfinite(x[rows[0]]))[0])
    raise DataError(
        f"found NaN or infinity in {len(rows)} of {len(x)} samples, the first sample {rows[0]} (from 0) at {inner}, "
        "expected finite numbers: remove those samples"
    )


RANGE_TOLERANCE = 1e-3  # a quarter of a grey level of 8-bit images (2 / 255 = 7.8e-3) and some rounding


def _check_values(x: np.ndarray) -> None:
    if x.ndim < 2 or 0 in x.shape:
        raise DataError(
            f"found samples of shape {x.shape}, expected (n, *shape) with n and every size at least 1: "
            "pass at least one sample, batch dimension first"
        )
    if x.dtype != np.float32:
        raise DataError(f"found samples of dtype {x.dtype}, expected float32: cast with x.astype(np.float32)")
    check_finite(x)
    low, high = float(x.min()), float(x.max())
    if max(-low, high) > 1.0 + RANGE_TOLERANCE:
        farthest = int((np.argmax(x) if high > -low else np.argmin(x)) // x[0].size)
        raise DataError(
            f"found values in [{low:.4g}, {high:.4g}], the farthest in sample {farthest} (from 0), expected [-1, 1]: "
            "rescale with 2 * (x - low) / (high - low) - 1"
        )


def _check_labels(label: np.ndarray, count: int) -> None:
    if label.dtype != np.int32:
        raise DataError(f"found labels of dtype {label.dtype}, expected int32: cast with label.astype(np.int32)")
    if label.shape != (count,):
        raise DataError(f"found labels of shape {label.shape}, expected ({count},): give one class index per sample")
    if label.min() < 0:
        raise DataError(
            f"found the label {label.min()} of sample {np.argmin(label)} (from 0), expected class indices from 0: "
            "renumber the classes"
        )


class Split(eqx.Module):
    """Samples and, where they have one, their class indices.

    Raises:
        DataError: no samples, no batch dimension, a dtype other than float32 / int32, NaN, values outside [-1, 1], or
            a label count other than the sample count.
    """

    x: Float[np.ndarray, "n *shape"]  # float32 in [-1, 1]
    label: Int[np.ndarray, " n_labels"] | None = None  # int32 class index, one per sample

    def __check_init__(self) -> None:
        """Refuse data that the rest of the package could not use."""
        _check_values(self.x)
        if self.label is not None:
            _check_labels(self.label, len(self.x))


class Dataset(eqx.Module):
    """A train split and a held-out test split of the same source.

    Raises:
        DataError: the splits differ in sample shape, only one has labels, or the labels do not fit `classes`.
    """

    train: Split  # what a teacher may learn from
    test: Split  # held out: for figures alone
    classes: int | None = None  # number of classes; None where there are no labels

    def __check_init__(self) -> None:
        """Refuse two splits that do not belong together."""
        found = self.train.x.shape[1:], self.test.x.shape[1:]
        if found[0] != found[1]:
            raise DataError(
                f"found train samples {found[0]} and test samples {found[1]}, expected one shape: resize one"
            )
        labels = self.train.label, self.test.label
        if len({label is None for label in labels} | {self.classes is None}) != 1:
            raise DataError(
                f"found train labels: {labels[0] is not None}, test labels: {labels[1] is not None}, classes: "
                f"{self.classes}, expected all three or none: label both splits and give classes, or drop the labels"
            )
        top = max((int(label.max()) for label in labels if label is not None), default=-1)
        if self.classes is not None and top >= self.classes:
            raise DataError(
                f"found the label {top}, expected less than classes = {self.classes}: pass classes={top + 1}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.train.x.shape[1:]

    def digest(self) -> str:
        """The SHA-256 of the content: equal for equal arrays, whatever file they came from."""
        state = hashlib.sha256(f"classes={self.classes}".encode())
        for array in (self.train.x, self.train.label, self.test.x, self.test.label):
            if array is None:
                state.update(b"none")
            else:
                state.update(f"{array.dtype.str}{array.shape}".encode())
                state.update(np.ascontiguousarray(array).view(np.uint8).data)
        return state.hexdigest()


def _held_out_indices(count: int, test_fraction: float, rng: np.random.Generator) -> np.ndarray:
    size = min(max(round(test_fraction * count), 1), count - 1)
    return rng.permutation(count)[:size]


def held_out(
    x: Float[np.ndarray, "n *shape"],
    label: Int[np.ndarray, " n_labels"] | None = None,
    classes: int | None = None,
    *,
    test_fraction: float = 0.25,
    seed: int = 0,
) -> Dataset:
    """Split samples into train and held-out test, class by class where there are labels.

    Args:
        x: float32 samples in [-1, 1].
        label: int32 class index of each sample.
        classes: number of classes; by default the largest label plus one.
        test_fraction: share of each class that is held out, in (0, 1); at least one sample stays on each side.
        seed: seed of the permutation; the same seed gives the same split.

    Returns:
        The data set; both splits keep the order of `x`.

    Raises:
        DataError: a fraction outside (0, 1), fewer than two samples in all or in a class, or what `Split` refuses.
    """
    if not 0.0 < test_fraction < 1.0:
        raise DataError(f"found test_fraction = {test_fraction}, expected a number between 0 and 1: try 0.25")
    whole = Split(x, label)
    groups = [np.arange(len(x))] if label is None else [np.flatnonzero(label == c) for c in np.unique(label)]
    rng = np.random.default_rng(seed)
    in_test = np.zeros(len(x), dtype=bool)
    for group in groups:
        if len(group) < 2:
            named = "in all" if label is None else f"of class {label[group[0]]}, sample {group[0]} (from 0)"
            raise DataError(f"found {len(group)} sample {named}, expected 2 or more to hold one out: add samples")
        in_test[group[_held_out_indices(len(group), test_fraction, rng)]] = True
    if whole.label is None:
        return Dataset(Split(x[~in_test]), Split(x[in_test]), classes)
    count = int(whole.label.max()) + 1 if classes is None else classes
    return Dataset(Split(x[~in_test], whole.label[~in_test]), Split(x[in_test], whole.label[in_test]), count)


def mirrored(data: Dataset) -> Dataset:
    """The data with each training image beside its mirror image, left and right exchanged; held-out ones as they are.

    For pictures of which the mirror image is as likely, such as those of CIFAR-10, and not for digits.

    Args:
        data: images, (n, h, w, c).

    Raises:
        DataError: samples that are not images.
    """
    train = data.train
    if train.x.ndim != 4:
        raise DataError(f"found samples of shape {data.shape}, expected images (h, w, c): others have no mirror image")
    label = None if train.label is None else np.concatenate([train.label, train.label])
    return Dataset(Split(np.concatenate([train.x, train.x[:, :, ::-1]]), label), data.test, data.classes)


GREY_LEVELS = 16  # pixels are integers 0..16: https://archive.ics.uci.edu/dataset/80


def digits(test_fraction: float = 0.25, seed: int = 0) -> Dataset:
    """The 8x8 handwritten digits, in 10 classes, with a stratified held-out split.

    Pixels 0..16 become x / 8 - 1 in [-1, 1].

    Args:
        test_fraction: share of each class that is held out.
        seed: seed of the split.

    Returns:
        Samples of shape (8, 8, 1) with labels 0..9.

    Source: UCI "Optical Recognition of Handwritten Digits" (test part), as scikit-learn ships it.
    """
    # the file itself: importing scikit-learn takes a second, which every start would wait for
    file = importlib.metadata.distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    rows = np.loadtxt(str(file), delimiter=",")  # 64 pixels and the class
    x = (rows[:, :-1].reshape(-1, 8, 8, 1) * (2.0 / GREY_LEVELS) - 1.0).astype(np.float32)
    return held_out(x, rows[:, -1].astype(np.int32), 10, test_fraction=test_fraction, seed=seed)
