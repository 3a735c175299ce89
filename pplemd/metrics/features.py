"""Features of samples: a small classifier's hidden layer, principal components, or a function of the user's."""

import hashlib
import importlib.metadata
import math
import warnings
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32, Num
from threadpoolctl import threadpool_limits

from pplemd.errors import DataError
from pplemd.storage.compiled import cached_arrays


def in_blocks(
    function: Callable[[Float32[np.ndarray, "size *shape"]], Float32[np.ndarray, "size width"]],
    rows: Num[np.ndarray, "n *shape"],
    size: int,
) -> Float32[np.ndarray, "n width"]:
    """A function of every row, evaluated for `size` rows each time; the last block is filled up by its own first row.

    The rounding of a matrix product changes with its number of rows: with blocks of one size, the same row gives the
    same numbers whatever stands beside it, and is compiled for once.

    Args:
        function: from `size` rows, in 32 bits, to a vector for each.
        rows: at least one.
        size: rows at once.
    """
    parts = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size].astype(np.float32, copy=False)
        filled = np.concatenate([some, np.repeat(some[:1], size - len(some), axis=0)])
        parts.append(function(filled)[: len(some)])
    return np.concatenate(parts)


WIDTH = 64  # hidden units, hence features
PRESENTATIONS = 1_200_000  # images shown in training at most: digits take 200 passes, 60,000 images take 20
ROWS_AT_ONCE = 1024  # images turned into features at once


class AbstractFeatures(eqx.Module):
    """A map from samples to feature vectors in which distances mean something."""

    @abstractmethod
    def features(self, x: Num[np.ndarray, "n *shape"]) -> Float32[np.ndarray, "n width"]:
        """The feature vector of each sample."""

    @abstractmethod
    def labels_of(self, features: Float32[np.ndarray, "n width"]) -> Int32[np.ndarray, " n"] | None:
        """The class that each sample is read as, from its features; None where no classes are known."""


class Classifier(AbstractFeatures):
    """A trained network with one hidden ReLU layer; its hidden activations are the features."""

    hidden: Float32[np.ndarray, "d width"]  # weights of the hidden layer
    hidden_bias: Float32[np.ndarray, " width"]
    out: Float32[np.ndarray, "width k"]  # weights of the logits
    out_bias: Float32[np.ndarray, " k"]
    present: Int32[np.ndarray, " k"]  # class index of each logit

    def features(self, x: Num[np.ndarray, "n *shape"]) -> Float32[np.ndarray, "n width"]:
        """Hidden activations, (n, 64)."""
        return in_blocks(
            lambda some: np.maximum(_product(some, self.hidden) + self.hidden_bias[None, :], 0.0),
            _rows(x),
            ROWS_AT_ONCE,
        )

    def labels(self, x: Num[np.ndarray, "n *shape"]) -> Int32[np.ndarray, " n"]:
        """The likeliest class index of each image."""
        return self.labels_of(self.features(x))

    def labels_of(self, features: Float32[np.ndarray, "n width"]) -> Int32[np.ndarray, " n"]:
        """The likeliest class index, from features already computed."""
        return self.present[(features @ self.out + self.out_bias[None, :]).argmax(axis=1)]

    def accuracy(self, x: Num[np.ndarray, "n *shape"], label: Int[np.ndarray, " n"]) -> float:
        """Share of the images whose likeliest class is their label."""
        return float((self.labels(x) == label).mean())


class Principal(AbstractFeatures):
    """Leading principal components: the raw numbers, rotated, and cut to 64 where there are more."""

    mean: Float32[np.ndarray, " d"]
    axes: Float32[np.ndarray, "d width"]  # orthonormal columns

    def features(self, x: Num[np.ndarray, "n *shape"]) -> Float32[np.ndarray, "n width"]:
        """Components along the axes, in the samples' own units."""
        return in_blocks(lambda some: _product(some - self.mean[None, :], self.axes), _rows(x), ROWS_AT_ONCE)

    def labels_of(self, features: Float32[np.ndarray, "n width"]) -> None:
        """None: components know no classes."""
        return


def _product(
    rows: Float32[np.ndarray, "n d"], matrix: Float32[np.ndarray, "d width"]
) -> Float32[np.ndarray, "n width"]:
    """A matrix product, summed in 64 bits: in 32, on some processors, a row's rounding depends on its place."""
    return (rows.astype(np.float64) @ matrix.astype(np.float64)).astype(np.float32)


def _rows(x: np.ndarray) -> Float32[np.ndarray, "n d"]:
    return x.reshape(len(x), -1).astype(np.float32)


def _fit(x: np.ndarray, label: np.ndarray, max_iter: int) -> dict[str, np.ndarray]:
    from sklearn.exceptions import ConvergenceWarning  # here: it takes a second, which every command would wait for
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(hidden_layer_sizes=(WIDTH,), random_state=0, max_iter=max_iter)
    with warnings.catch_warnings(), threadpool_limits(1):  # products this small are slower, not faster, on more
        warnings.simplefilter("ignore", ConvergenceWarning)  # features need no converged network
        network.fit(_rows(x), label)
    out, out_bias = network.coefs_[1], network.intercepts_[1]
    if len(network.classes_) == 2:  # scikit-learn keeps one logit for two classes: that of the second
        out, out_bias = np.hstack([np.zeros_like(out), out]), np.concatenate([np.zeros_like(out_bias), out_bias])
    return {
        "hidden": network.coefs_[0].astype(np.float32),
        "hidden_bias": network.intercepts_[0].astype(np.float32),
        "out": out.astype(np.float32),
        "out_bias": out_bias.astype(np.float32),
        "present": network.classes_.astype(np.int32),
    }


def train_classifier(x: Num[np.ndarray, "n *shape"], label: Int[np.ndarray, " n"]) -> Classifier:
    """Train a small classifier of images, or take it from the cache.

    Scikit-learn's MLPClassifier with 64 hidden units and a fixed seed, on the flattened images: up to 200 passes, fewer
    above 6,000 images. The weights are kept as arrays, under a digest of the images, the labels and these settings.

    Args:
        x: train images in [-1, 1].
        label: class index of each.

    Returns:
        The classifier.

    Raises:
        DataError: fewer than two classes.
    """
    if len(np.unique(label)) < 2:
        raise DataError("found fewer than two classes, expected two or more: evaluate this data without labels")
    max_iter = min(200, max(10, PRESENTATIONS // len(x)))
    state = hashlib.sha256(f"{x.dtype.str}{x.shape}{label.dtype.str}".encode())
    for array in (x, label):
        state.update(np.ascontiguousarray(array).view(np.uint8).data)
    installed = importlib.metadata.version("scikit-learn")
    key = f"classifier {state.hexdigest()} width={WIDTH} seed=0 max_iter={max_iter} scikit-learn={installed}"
    return Classifier(**cached_arrays(key, lambda: _fit(x, label, max_iter)))


def principal(x: Num[np.ndarray, "n *shape"]) -> Principal:
    """The leading principal components of the samples, 64 at most.

    Up to 64 numbers a sample, distances are those of the raw samples.

    Args:
        x: samples of any shape, n >= 2.

    Raises:
        DataError: fewer than two samples.
    """
    from sklearn.decomposition import PCA  # here: it takes a second, which every command would wait for

    if len(x) < 2:
        raise DataError(f"found {len(x)} sample, expected two or more to find principal components: add samples")
    width = min(WIDTH, len(x), math.prod(x.shape[1:]))
    fitted = PCA(n_components=width, random_state=0).fit(_rows(x))
    return Principal(fitted.mean_.astype(np.float32), np.ascontiguousarray(fitted.components_.T.astype(np.float32)))


ROWS_OF_A_FUNCTION = 250  # samples in one compiled call: a few megabytes of activations in a small network


class GivenFeatures(AbstractFeatures):
    """A function of one sample as features, batched and compiled by JAX.

    Attributes:
        function: from one sample, of the data's shape, images in [-1, 1], to a vector.
        classify: from such a vector to a number for each class, the largest for the class that it is read as; None
            where the features know no classes.
    """

    function: Callable[[Float[Array, "..."]], Float[Array, " width"]]
    classify: Callable[[Float[Array, " width"]], Float[Array, " classes"]] | None = None

    def features(self, x: Num[np.ndarray, "n *shape"]) -> Float32[np.ndarray, "n width"]:
        """The function's vector of each sample.

        Raises:
            DataError: a function that gives anything else than one vector.
        """
        _check(self.function, x.shape[1:], "the function of the features")
        return _mapped(self.function, x)

    def labels_of(self, features: Float32[np.ndarray, "n width"]) -> Int32[np.ndarray, " n"] | None:
        """The class of the largest number.

        Raises:
            DataError: a function that gives anything else than one vector.
        """
        if self.classify is None:
            return None
        _check(self.classify, features.shape[1:], "the function of the classes")
        return _mapped(self.classify, features).argmax(axis=1).astype(np.int32)


def _check(function: Callable[[Any], Any], shape: tuple[int, ...], name: str) -> None:
    found = eqx.filter_eval_shape(function, jax.ShapeDtypeStruct(shape, np.float32))
    if not isinstance(found, jax.ShapeDtypeStruct) or len(found.shape) != 1 or not 0 < found.shape[0]:
        raise DataError(
            f"{name} gives {found} for one sample of shape {shape}, expected one vector, (width,): write it for one "
            "sample, without a batch dimension"
        )


def _mapped(function: Callable[[Array], Array], rows: Num[np.ndarray, "n *shape"]) -> Float32[np.ndarray, "n width"]:
    return in_blocks(lambda some: np.asarray(_batch(function, jnp.asarray(some)), np.float32), rows, ROWS_OF_A_FUNCTION)


@eqx.filter_jit
def _batch(function: Callable[[Array], Array], rows: Float[Array, "n *shape"]) -> Float[Array, "n width"]:
    return jax.vmap(function)(rows)
