"""A multilayer perceptron that sees the noise level: a denoiser of points in few dimensions."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.networks.base import AbstractClassNetwork, Label, check_input, check_shape, check_sizes
from pplemd.networks.embeddings import FEATURES, ClassEmbedding, class_vector, fourier_features
from pplemd.networks.layers import Linear, zeroed
from pplemd.networks.mlp import SILU_GAIN


class TimedMLP(AbstractClassNetwork):
    """`h = W_x x + W_t f(time) + class vector`, `h <- h + a(h) W_i / sqrt(blocks)`, output `SiLU(h) W`, W zero first.

    f is the Fourier features of the time and a the SiLU scaled to unit mean square. Nothing is normalised: a layer norm
    after the first layer divides by the length of x, and that is most of what a point in few dimensions has to say.

    Args:
        shape: shape of one sample.
        width: hidden features.
        blocks: number of residual layers.
        classes: number of labels, None for none.
        key: random key.

    Raises:
        RecipeError: a size below 1.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True)
    time: Linear
    label: ClassEmbedding | None
    first: Linear
    blocks: tuple[Linear, ...]
    last: Linear

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int = 128,
        blocks: int = 3,
        *,
        classes: int | None = None,
        key: Key[Array, ""],
    ) -> None:
        check_shape("TimedMLP", "shape", shape)
        check_sizes("TimedMLP", {"width": width, "blocks": blocks, "classes": classes})
        key_time, key_label, key_first, key_last, *keys = jax.random.split(key, blocks + 4)
        size = math.prod(shape)
        self.shape, self.classes = shape, classes
        self.time = Linear(FEATURES, width, key=key_time)
        self.label = None if classes is None else ClassEmbedding(classes, width, key=key_label)
        self.first = Linear(size, width, key=key_first)
        self.blocks = tuple(Linear(width, width, key=key_block) for key_block in keys)
        self.last = zeroed(Linear(width, size, key=key_last))

    def __call__(
        self,
        x: Float[Array, "*shape"],
        time: Float[Array, ""] | float,
        label: Label = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "*shape"]:
        """Return the raw prediction for one sample; see AbstractClassNetwork."""
        check_input("TimedMLP", x.shape, self.shape)
        condition = self.time(fourier_features(jnp.asarray(time)).astype(x.dtype))
        vector = class_vector(self.label, label, "TimedMLP")
        if vector is not None:
            condition = condition + vector.astype(x.dtype)
        hidden = self.first(x.reshape(-1)) + condition
        share = len(self.blocks) ** -0.5  # so that all blocks together double the variance, whatever their number
        for block in self.blocks:
            hidden = hidden + block(jax.nn.silu(hidden) * (SILU_GAIN * share))
        return self.last(jax.nn.silu(hidden)).reshape(self.shape)
