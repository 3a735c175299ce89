"""Features by a function of the user's: any network that maps a sample to a vector."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, Num

from pplemd.errors import DataError
from pplemd.metrics.features import AbstractFeatures
from pplemd.metrics.row_blocks import in_blocks

ROWS_AT_ONCE = 250  # samples in one compiled call: a few megabytes of activations in a small network


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
    return in_blocks(lambda some: np.asarray(_batch(function, jnp.asarray(some)), np.float32), rows, ROWS_AT_ONCE)


@eqx.filter_jit
def _batch(function: Callable[[Array], Array], rows: Float[Array, "n *shape"]) -> Float[Array, "n width"]:
    return jax.vmap(function)(rows)
