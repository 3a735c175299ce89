"""A compact U-Net for images from 8 x 8 to 64 x 64, channels last."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.errors import RecipeError
from pplemd.networks.base import (
    AbstractClassNetwork,
    Label,
    check_dropout,
    check_heights,
    check_input,
    check_shape,
    check_sizes,
)
from pplemd.networks.embeddings import Conditioning
from pplemd.networks.layers import Conv, GroupNorm, Linear, SelfAttention, branch_keys, dropout, zeroed


def _halve(x: Float[Array, "h w c"]) -> Float[Array, "h//2 w//2 c"]:
    height, width, channels = x.shape
    return x.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))


def _double(x: Float[Array, "h w c"]) -> Float[Array, "h*2 w*2 c"]:
    height, width, channels = x.shape
    tiled = jnp.broadcast_to(x[:, None, :, None], (height, 2, width, 2, channels))
    return tiled.reshape(2 * height, 2 * width, channels)


class ConvBlock(eqx.Module):
    """A residual block of two 3 x 3 convolutions, scaled and shifted by the conditioning vector, then attention if any.

    `skip(x) + conv_2(SiLU(norm(conv_1(SiLU(norm(x)))) (1 + scale(c)) + shift(c)))`, conv_2 zero at the start.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        width: features of the conditioning vector c.
        attend: whether self-attention follows.
        key: random key.

    Source: arXiv:2105.05233, section 3.1, adaptive group normalisation.
    """

    norm_first: GroupNorm
    conv_first: Conv
    modulation: Linear
    norm_last: GroupNorm
    conv_last: Conv
    skip: Linear | None
    attention: SelfAttention | None

    def __init__(self, channels_in: int, channels_out: int, width: int, attend: bool, *, key: Key[Array, ""]) -> None:
        key_first, key_modulation, key_last, key_skip, key_attention = jax.random.split(key, 5)
        self.norm_first = GroupNorm(channels_in)
        self.conv_first = Conv(channels_in, channels_out, key=key_first)
        self.modulation = Linear(width, 2 * channels_out, key=key_modulation)
        self.norm_last = GroupNorm(channels_out)
        self.conv_last = zeroed(Conv(channels_out, channels_out, key=key_last))
        self.skip = None if channels_in == channels_out else Linear(channels_in, channels_out, key=key_skip)
        self.attention = SelfAttention(channels_out, key=key_attention) if attend else None

    def __call__(
        self,
        x: Float[Array, "h w channels_in"],
        condition: Float[Array, " width"],
        key: Key[Array, ""] | None = None,
        rate: float = 0.0,
    ) -> Float[Array, "h w _"]:
        """Return the block's output for one image; with a key, features before conv_2 are dropped at a rate."""
        scale, shift = self.modulation(condition).reshape(2, 1, 1, -1)
        hidden = self.conv_first(jax.nn.silu(self.norm_first(x)))
        hidden = jax.nn.silu(self.norm_last(hidden) * (1 + scale) + shift)
        hidden = self.conv_last(dropout(hidden, rate, key))
        out = hidden + (x if self.skip is None else self.skip(x))
        return out if self.attention is None else self.attention(out)


def _encoder(
    levels: list[tuple[int, bool]], blocks: int, channels: int, width: int, *, key: Key[Array, ""]
) -> tuple[tuple[ConvBlock, ...], ...]:
    """Return the blocks of each (channels, attend) level, finest first; the first input has the given channels."""
    down = []
    for (out, attend), key_level in zip(levels, jax.random.split(key, len(levels)), strict=True):
        sizes = [channels, *[out] * blocks]
        keys = jax.random.split(key_level, blocks)
        down.append(tuple(ConvBlock(sizes[i], out, width, attend, key=keys[i]) for i in range(blocks)))
        channels = out
    return tuple(down)


def _decoder(
    levels: list[tuple[int, bool]], blocks: int, channels: int, width: int, *, key: Key[Array, ""]
) -> tuple[tuple[ConvBlock, ...], ...]:
    """Return the blocks of each level, coarsest first; every block also takes one skip of the encoder, last first."""
    up = []
    size = levels[-1][0]
    inputs = [channels, *[out for out, _ in levels[:-1]]]  # channels that enter each encoder level: its last skip
    stages = zip(reversed(levels), reversed(inputs), jax.random.split(key, len(levels)), strict=True)
    for (out, attend), entering, key_level in stages:
        level = []
        for skip, key_block in zip([*[out] * blocks, entering], jax.random.split(key_level, blocks + 1), strict=True):
            level.append(ConvBlock(size + skip, out, width, attend, key=key_block))
            size = out
        up.append(tuple(level))
    return tuple(up)


class UNet(AbstractClassNetwork):
    """Encoder and decoder of residual blocks with skips between equal resolutions, attention in the middle.

    Level i has channels * multipliers[i] channels at 1 / 2^i of the image's side. Average pooling goes down, repeated
    pixels go up. The output is 0 at the start, so that a preconditioned denoiser starts as its skip path.

    Args:
        shape: (h, w, c) of one image, h and w divisible by 2^(levels - 1).
        channels: channels of the first level.
        multipliers: channels of each level, in units of the first argument.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention: image heights, in pixels, at which every block attends too.
        classes: number of labels, None for none.
        dropout: probability that a block's feature is dropped while training; for a teacher of few data.
        key: random key.

    Raises:
        RecipeError: a size below 1, a dropout outside [0, 1), a shape that does not halve, or attention at a height
            that no level has.

    Source: arXiv:2006.11239, appendix B, with the blocks of arXiv:2105.05233.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True)
    dropout: float = eqx.field(static=True)
    conditioning: Conditioning
    first: Conv
    down: tuple[tuple[ConvBlock, ...], ...]  # one tuple a level, finest first
    middle: tuple[ConvBlock, ...]
    up: tuple[tuple[ConvBlock, ...], ...]  # one tuple a level, coarsest first
    norm: GroupNorm
    last: Conv

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        channels: int = 64,
        multipliers: tuple[int, ...] = (1, 2),
        blocks: int = 2,
        attention: tuple[int, ...] = (),
        classes: int | None = None,
        dropout: float = 0.0,
        key: Key[Array, ""],
    ) -> None:
        check_shape("UNet", "shape", shape)
        check_dropout("UNet", dropout)
        check_shape("UNet", "multipliers", multipliers)
        check_sizes("UNet", {"channels": channels, "blocks": blocks, "classes": classes})
        factor = 2 ** (len(multipliers) - 1)
        if len(shape) != 3 or shape[0] % factor or shape[1] % factor:
            raise RecipeError(
                f"UNet: shape is {shape} with {len(multipliers)} levels; expected (h, w, c) with h and w divisible by "
                f"{factor}. Use fewer multipliers, or pad the images."
            )
        check_heights("UNet", attention)
        heights = tuple(shape[0] // 2**level for level in range(len(multipliers)))
        if not set(attention) <= set(heights):
            raise RecipeError(
                f"UNet: attention is at heights {attention}; expected some of {heights}, the heights of the levels. "
                "The middle of the network attends in any case."
            )
        key_condition, key_first, key_down, key_middle, key_up, key_last = jax.random.split(key, 6)
        width = 4 * channels  # of the conditioning vector: arXiv:2006.11239's code
        levels = [(channels * multiplier, shape[0] // 2**i in attention) for i, multiplier in enumerate(multipliers)]
        self.shape, self.classes, self.dropout = shape, classes, dropout
        self.conditioning = Conditioning(width, classes, key=key_condition)
        self.first = Conv(shape[2], channels, key=key_first)
        self.down = _encoder(levels, blocks, channels, width, key=key_down)
        bottom = levels[-1][0]
        self.middle = tuple(
            ConvBlock(bottom, bottom, width, attend, key=key_block)
            for attend, key_block in zip((True, False), jax.random.split(key_middle), strict=True)
        )
        self.up = _decoder(levels, blocks, channels, width, key=key_up)
        self.norm = GroupNorm(levels[0][0])
        self.last = zeroed(Conv(levels[0][0], shape[2], key=key_last))

    def __call__(
        self,
        x: Float[Array, "*shape"],
        time: Float[Array, ""] | float,
        label: Label = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "*shape"]:
        """Return the raw prediction for one image; see AbstractClassNetwork."""
        check_input("UNet", x.shape, self.shape)
        condition = self.conditioning(time, label).astype(x.dtype)
        keys = iter(branch_keys(key, sum(len(level) for level in (*self.down, self.middle, *self.up))))

        def apply(block: ConvBlock, image: Array) -> Array:
            return block(image, condition, next(keys), self.dropout)

        hidden = self.first(x)
        skips = [hidden]
        for i, level in enumerate(self.down):
            if i:
                hidden = _halve(hidden)
                skips.append(hidden)
            for block in level:
                hidden = apply(block, hidden)
                skips.append(hidden)
        for block in self.middle:
            hidden = apply(block, hidden)
        for i, level in enumerate(self.up):
            hidden = _double(hidden) if i else hidden
            for block in level:
                hidden = apply(block, jnp.concatenate([hidden, skips.pop()], -1))
        return self.last(jax.nn.silu(self.norm(hidden)))
