"""Multilayer perceptrons: a generator, and denoisers of points and of small samples of any shape."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.networks.base import AbstractClassNetwork, Label, check_dropout, check_input, check_shape, check_sizes
from pplemd.networks.embeddings import FEATURES, ClassEmbedding, Conditioning, class_vector, fourier_features
from pplemd.networks.layers import Linear, branch_keys, dropout, layer_norm, zeroed

SILU_GAIN = 1.676  # 1 / sqrt(E[silu(n)^2]), n ~ N(0, 1): keeps unit mean square from layer to layer


class MLP(eqx.Module):
    """`x = W_depth a(... a(W_0 z + b_0 + class vector))` with a = SiLU scaled to keep unit variance at the start.

    Args:
        in_shape: shape of the latent z.
        out_shape: shape of the sample.
        width: hidden features.
        depth: number of hidden layers, 1 or more.
        classes: number of labels, None for none.
        key: random key.

    Raises:
        RecipeError: a size below 1.
    """

    in_shape: tuple[int, ...] = eqx.field(static=True)
    out_shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True)
    layers: tuple[Linear, ...]
    label: ClassEmbedding | None

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        width: int = 192,
        depth: int = 4,
        *,
        classes: int | None = None,
        key: Key[Array, ""],
    ) -> None:
        check_shape("MLP", "in_shape", in_shape)
        check_shape("MLP", "out_shape", out_shape)
        check_sizes("MLP", {"width": width, "depth": depth, "classes": classes})
        key_label, *keys = jax.random.split(key, depth + 2)
        sizes = [math.prod(in_shape), *[width] * depth, math.prod(out_shape)]
        self.in_shape, self.out_shape, self.classes = in_shape, out_shape, classes
        self.layers = tuple(
            Linear(size_in, size_out, key=key_layer)
            for size_in, size_out, key_layer in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        self.label = None if classes is None else ClassEmbedding(classes, width, key=key_label)

    def __call__(self, z: Float[Array, "..."], label: Label = None) -> Float[Array, "..."]:
        """Generate one sample.

        Args:
            z: latent of shape in_shape.
            label: class index in [0, classes); None or -1 for no label.

        Returns:
            The sample, of shape out_shape and z's dtype.

        Raises:
            RecipeError: z is not of shape in_shape, or a label is given to an MLP without classes.
        """
        check_input("MLP", z.shape, self.in_shape)
        first, *rest = self.layers
        hidden = first(z.reshape(-1))
        vector = class_vector(self.label, label, "MLP")
        if vector is not None:
            hidden = hidden + vector.astype(hidden.dtype)
        for layer in rest:
            hidden = layer(jax.nn.silu(hidden) * SILU_GAIN)
        return hidden.reshape(self.out_shape)


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


CONDITION = 128  # features that carry the noise level and the class: one number and a label need no more


class ResidualBlock(eqx.Module):
    """`h + W_2 SiLU(W_1 (norm(h) (1 + scale(c)) + shift(c)))`, W_2 zero at the start.

    Args:
        width: features of h.
        condition: features of the conditioning vector c.
        dropout: probability that a feature between W_1 and W_2 is dropped while training.
        key: random key.

    Source: arXiv:2212.09748, section 3.2, the adaptive layer norm block, with the zero on the last layer.
    """

    modulation: Linear
    first: Linear
    last: Linear
    dropout: float = eqx.field(static=True)

    def __init__(self, width: int, condition: int, dropout: float = 0.0, *, key: Key[Array, ""]) -> None:
        self.dropout = dropout
        key_modulation, key_first, key_last = jax.random.split(key, 3)
        self.modulation = Linear(condition, 2 * width, key=key_modulation)
        self.first = Linear(width, width, key=key_first)
        self.last = zeroed(Linear(width, width, key=key_last))

    def __call__(
        self, hidden: Float[Array, " width"], condition: Float[Array, " condition"], key: Key[Array, ""] | None = None
    ) -> Float[Array, " width"]:
        """Return the block's output for one sample; with a key, features of the branch are dropped."""
        scale, shift = self.modulation(condition).reshape(2, -1)
        modulated = layer_norm(hidden) * (1 + scale) + shift
        return hidden + self.last(dropout(jax.nn.silu(self.first(modulated)), self.dropout, key))


class ResidualMLP(AbstractClassNetwork):
    """Flatten, one linear layer, residual blocks that see time and class, norm, one linear layer, reshape.

    The output is 0 at the start, so that a preconditioned denoiser starts as its skip path.

    Args:
        shape: shape of one sample.
        width: hidden features; 384 with 4 blocks is 1.6 million parameters on 8 x 8 digits.
        blocks: number of residual blocks.
        classes: number of labels, None for none.
        dropout: probability that a block's feature is dropped while training; for a teacher of few data.
        key: random key.

    Raises:
        RecipeError: a size below 1, or a dropout outside [0, 1).
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True)
    conditioning: Conditioning
    first: Linear
    blocks: tuple[ResidualBlock, ...]
    last: Linear

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int = 384,
        blocks: int = 4,
        *,
        classes: int | None = None,
        dropout: float = 0.0,
        key: Key[Array, ""],
    ) -> None:
        check_shape("ResidualMLP", "shape", shape)
        check_dropout("ResidualMLP", dropout)
        check_sizes("ResidualMLP", {"width": width, "blocks": blocks, "classes": classes})
        key_condition, key_first, key_last, *keys = jax.random.split(key, blocks + 3)
        self.shape, self.classes = shape, classes
        condition = min(width, CONDITION)
        self.conditioning = Conditioning(condition, classes, key=key_condition)
        self.first = Linear(math.prod(shape), width, key=key_first)
        self.blocks = tuple(ResidualBlock(width, condition, dropout, key=key_block) for key_block in keys)
        self.last = zeroed(Linear(width, math.prod(shape), key=key_last))

    def __call__(
        self,
        x: Float[Array, "*shape"],
        time: Float[Array, ""] | float,
        label: Label = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "*shape"]:
        """Return the raw prediction for one sample; see AbstractClassNetwork."""
        check_input("ResidualMLP", x.shape, self.shape)
        condition = self.conditioning(time, label).astype(x.dtype)
        hidden = self.first(x.reshape(-1))
        for block, block_key in zip(self.blocks, branch_keys(key, len(self.blocks)), strict=True):
            hidden = block(hidden, condition, block_key)
        return self.last(jax.nn.silu(layer_norm(hidden))).reshape(self.shape)
