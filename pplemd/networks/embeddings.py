"""Embeddings of the noise level and of the class."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from pplemd.errors import RecipeError
from pplemd.networks.base import AbstractWide, Label
from pplemd.networks.layers import Linear, scaled_normal, widened

FEATURES = 64  # sines and cosines of the time: 32 periods


def fourier_features(time: Float[Array, ""], count: int = FEATURES) -> Float[Array, " {count}"]:
    """Return cosines and sines of the time with periods geometric from 16 to 1/8.

    With time = log(sigma) / 4 the periods run from 64 to 1/2 in log(sigma): from wider than any range of noise levels
    to half a factor of e.

    Args:
        time: scalar of order 1.
        count: number of features, even.

    Returns:
        The features, each in [-1, 1], in at least 32 bits.

    Source: arXiv:1706.03762, section 3.5, with periods for a scalar of order 1.
    """
    time = widened(time)
    log_rates = jnp.linspace(math.log(2 * math.pi / 16), math.log(2 * math.pi * 8), count // 2, dtype=time.dtype)
    angles = time * jnp.exp(log_rates)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])


class ClassEmbedding(eqx.Module):
    """One trained vector a class, Normal(0, 1); no label is the zero vector.

    Args:
        classes: number of classes.
        width: length of the vector.
        key: random key.
    """

    table: Float[Array, "classes width"]

    def __init__(self, classes: int, width: int, *, key: Key[Array, ""]) -> None:
        self.table = scaled_normal(key, (classes, width), 1)

    def __call__(self, label: Label) -> Float[Array, " width"]:
        """Return the class's vector; zeros for None and for an index outside the classes, such as -1."""
        if label is None:
            return jnp.zeros_like(self.table[0])
        return one_hot(label, self.table.shape[0], self.table.dtype) @ self.table


def one_hot(label: Label, classes: int, dtype: DTypeLike = jnp.float32) -> Float[Array, " {classes}"]:
    """Return 1 at the label and 0 elsewhere; zeros for None and for an index outside the classes, such as -1."""
    return jnp.zeros(classes, dtype) if label is None else jax.nn.one_hot(label, classes, dtype=dtype)


def refuse_label(label: Label, owner: str) -> None:
    """Raise RecipeError if a label is given; for a network without classes.

    Args:
        label: class index, None for no label.
        owner: name of the network's class.

    Raises:
        RecipeError: a label.
    """
    if label is not None:
        raise RecipeError(
            f"{owner} got a label but was built without classes; expected label=None. "
            "Build it with classes=<number of labels>, or drop the label."
        )


def class_vector(embedding: ClassEmbedding | None, label: Label, owner: str) -> Float[Array, " width"] | None:
    """Return the class's vector, or None for a network without classes.

    Args:
        embedding: the network's class embedding, None where it has none.
        label: class index, None for no label.
        owner: name of the network's class.

    Returns:
        The vector to add to the hidden features, or None.

    Raises:
        RecipeError: a label for a network without classes.
    """
    if embedding is not None:
        return embedding(label)
    refuse_label(label, owner)
    return None


class Conditioning(AbstractWide):
    """The vector that gives every block the noise level and the class: `SiLU(W f(time) + b + class vector)`.

    Args:
        width: length of the vector.
        classes: number of classes, or None.
        key: random key.
    """

    time: Linear
    label: ClassEmbedding | None

    def __init__(self, width: int, classes: int | None, *, key: Key[Array, ""]) -> None:
        key_time, key_label = jax.random.split(key)
        self.time = Linear(FEATURES, width, key=key_time)
        self.label = None if classes is None else ClassEmbedding(classes, width, key=key_label)

    def __call__(self, time: Float[Array, ""] | float, label: Label) -> Float[Array, " width"]:
        """Return the conditioning vector of one sample, in at least 32 bits.

        Raises:
            RecipeError: a label for a network without classes.
        """
        hidden = self.time(fourier_features(jnp.asarray(time)) * math.sqrt(2))  # sqrt(2): unit mean square
        vector = class_vector(self.label, label, "a network")
        return jax.nn.silu(hidden if vector is None else hidden + vector)
