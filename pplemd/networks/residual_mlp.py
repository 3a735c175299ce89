"""A residual MLP denoiser for small samples of any shape."""

import math

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from pplemd.networks.base import AbstractClassNetwork, Label, check_dropout, check_input, check_shape, check_sizes
from pplemd.networks.embeddings import Conditioning
from pplemd.networks.layers import Linear, branch_keys, dropout, layer_norm, zeroed

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
