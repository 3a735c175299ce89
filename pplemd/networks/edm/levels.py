"""Encoder and decoder of EDM's networks: levels of blocks at one size, joined by skips."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.networks.edm.blocks import Block, BlockStyle, Resample, check_groups
from pplemd.networks.edm.options import Side, UNetOptions
from pplemd.networks.layers import Conv, GroupNorm, Linear, zeroed
from pplemd.networks.resampling import decimated, downsampled, margin, padded, upsampled

Run = Callable[[Block, Array], Array]  # applies a block, knowing the conditioning vector and the dropout


class EncoderLevel(eqx.Module):
    """The way in, at one size.

    Attributes:
        down: halves the features of the level before; None at full size.
        side: takes in the image of this size (SKIP: a matrix) or the features of the side of the level before
            (RESIDUAL: a 3 x 3 convolution, then halved); None at full size and in the standard encoder.
        blocks: at this size.
    """

    down: Block | None
    side: Linear | Conv | None
    blocks: tuple[Block, ...]


class Encoder(eqx.Module):
    """A convolution, then levels of blocks, each at half the size of the one before.

    Args:
        options: sizes of the network.
        style: of its blocks.
        side: whether images of all sizes take part.
        key: random key.

    Source: arXiv:2006.11239, appendix B; with sides, arXiv:2011.13456, appendix H.
    """

    first: Conv
    levels: tuple[EncoderLevel, ...]  # finest first
    style: BlockStyle = eqx.field(static=True)

    def __init__(self, options: UNetOptions, style: BlockStyle, side: Side, *, key: Key[Array, ""]) -> None:
        key_first, *keys = jax.random.split(key, len(options.multipliers) + 1)
        image, channels = options.shape[2], _first_channels(options, style)
        self.style = style
        self.first = Conv(image, channels, key=key_first)
        levels = []
        for level, ((out, attend), key_level) in enumerate(zip(options.levels, keys, strict=True)):
            key_down, key_side, *key_blocks = jax.random.split(key_level, options.blocks + 2)
            down, aside = None, None
            if level:
                down = Block(channels, channels, options.width, style, resample=Resample.HALVE, key=key_down)
                aside = _side(side, image, channels, key=key_side)
                image = channels if side is Side.RESIDUAL else image
            sizes = [channels, *[out] * options.blocks]
            blocks = [Block(sizes[i], out, options.width, style, attend, key=k) for i, k in enumerate(key_blocks)]
            levels.append(EncoderLevel(down, aside, tuple(blocks)))
            channels = out
        self.levels = tuple(levels)

    def __call__(self, x: Float[Array, "h w c"], run: Run) -> list[Array]:
        """Return what every block and the first convolution made of one image, in order."""
        aside, taps = x, self.style.taps
        skips = [self.first(x)]
        for level in self.levels:
            if level.down is not None:
                hidden = run(level.down, skips[-1])
                if isinstance(level.side, Linear):
                    aside = downsampled(aside, taps)
                    hidden = hidden + level.side(aside)
                elif isinstance(level.side, Conv):
                    aside = decimated(level.side(padded(aside, margin(taps))), taps)
                    hidden = aside = (hidden + aside) * math.sqrt(0.5)
                skips.append(hidden)
            for block in level.blocks:
                skips.append(run(block, skips[-1]))
        return skips


class Output(eqx.Module):
    """Features to an image: `conv(SiLU(norm(x)))`, zero at the start.

    Args:
        channels_in: channels of the features.
        channels_out: channels of the image.
        floor: of the variance, in the norm.
        key: random key.
    """

    norm: GroupNorm
    conv: Conv

    def __init__(self, channels_in: int, channels_out: int, floor: float, *, key: Key[Array, ""]) -> None:
        check_groups(channels_in)
        self.norm = GroupNorm(channels_in, floor)
        self.conv = zeroed(Conv(channels_in, channels_out, key=key))

    def __call__(self, x: Float[Array, "h w channels_in"]) -> Float[Array, "h w channels_out"]:
        """One image."""
        return self.conv(jax.nn.silu(self.norm(x)))


class DecoderLevel(eqx.Module):
    """The way out, at one size.

    Attributes:
        opening: at the coarsest size two blocks, the first of which attends; then one that doubles.
        blocks: at this size, each of which also takes one skip of the encoder, the last first.
        output: what the level adds to the image; None where it adds nothing.
    """

    opening: tuple[Block, ...]
    blocks: tuple[Block, ...]
    output: Output | None


class Decoder(eqx.Module):
    """Levels of blocks, each at twice the size of the one before, and the image that they make.

    Args:
        options: sizes of the network.
        style: of its blocks.
        side: whether every level adds to the image (SKIP), or the last one makes it.
        key: random key.

    Source: arXiv:2006.11239, appendix B; with sides, arXiv:2011.13456, appendix H.
    """

    levels: tuple[DecoderLevel, ...]  # coarsest first
    style: BlockStyle = eqx.field(static=True)

    def __init__(self, options: UNetOptions, style: BlockStyle, side: Side, *, key: Key[Array, ""]) -> None:
        skips, hidden = _skips(options, style), options.levels[-1][0]
        self.style = style
        levels: list[DecoderLevel] = []
        for (out, attend), key_level in zip(
            reversed(options.levels), jax.random.split(key, len(options.levels)), strict=True
        ):
            key_opening, key_output, *key_blocks = jax.random.split(key_level, options.blocks + 3)
            opening = _opening(hidden, options.width, style, first=not levels, key=key_opening)
            blocks = []
            for i, key_block in enumerate(key_blocks):
                attends = attend and (style.always or i == options.blocks)
                blocks.append(Block(hidden + skips.pop(), out, options.width, style, attends, key=key_block))
                hidden = out
            makes = side is Side.SKIP or len(levels) == len(options.levels) - 1
            output = Output(out, options.computed, style.floor, key=key_output) if makes else None
            levels.append(DecoderLevel(opening, tuple(blocks), output))
        self.levels = tuple(levels)

    def __call__(self, skips: list[Array], run: Run) -> Float[Array, "h w c"]:
        """Return the image for what the encoder returned, which is used up."""
        hidden, image = skips[-1], None
        for level in self.levels:
            for block in level.opening:
                hidden = run(block, hidden)
            for block in level.blocks:
                hidden = run(block, jnp.concatenate([hidden, skips.pop()], -1))
            if level.output is not None:
                added = level.output(hidden)
                image = added if image is None else added + upsampled(image, self.style.taps)
        assert image is not None  # the last level has an output
        return image


def _side(side: Side, image: int, channels: int, *, key: Key[Array, ""]) -> Linear | Conv | None:
    if side is Side.STANDARD:
        return None
    return Linear(image, channels, key=key) if side is Side.SKIP else Conv(image, channels, key=key)


def _opening(channels: int, width: int, style: BlockStyle, first: bool, *, key: Key[Array, ""]) -> tuple[Block, ...]:
    if not first:
        return (Block(channels, channels, width, style, resample=Resample.DOUBLE, key=key),)
    key_first, key_last = jax.random.split(key)
    attending = Block(channels, channels, width, style, attend=True, key=key_first)
    return attending, Block(channels, channels, width, style, key=key_last)


def _first_channels(options: UNetOptions, style: BlockStyle) -> int:
    """Channels that the first convolution computes."""
    return options.levels[0][0] if style.levelled else options.channels


def _skips(options: UNetOptions, style: BlockStyle) -> list[int]:
    """Channels of what the encoder returns, in order."""
    found = [_first_channels(options, style)]
    for level, (out, _) in enumerate(options.levels):
        found += [*([found[-1]] if level else []), *[out] * options.blocks]
    return found
