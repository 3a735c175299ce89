"""Blocks of EDM's networks, and their levels: encoder and decoder, joined by skips."""

import math
from collections.abc import Callable
from enum import Enum

import equinox as eqx
import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.errors import RecipeError
from pplemd.networks.edm.options import Side, UNetOptions
from pplemd.networks.layers import (
    HEAD,
    Conv,
    GroupNorm,
    Linear,
    SelfAttention,
    Taps,
    decimated,
    downsampled,
    dropout,
    margin,
    padded,
    upsampled,
    zeroed,
)


class Resample(Enum):
    """What a block does to the size of its image."""

    KEEP = "keep"
    HALVE = "halve"
    DOUBLE = "double"


class BlockStyle(eqx.Module):
    """What tells the blocks of SongUNet and DhariwalUNet apart.

    Attributes:
        floor: of the variance, in norms.
        residual_scale: factor on every sum of a branch and what it branched from.
        modulated: whether the conditioning vector scales and shifts after the second norm, or is added before it.
        projected: whether a block that changes its image's size has a matrix on its skip, even between equal channels.
        head: features of an attention head, None for one head.
        always: whether every block of a decoder level attends, or its last one alone.
        levelled: whether the first convolution computes the finest level's channels, or the options' `channels`.
        taps: filter that halves and doubles images.
    """

    floor: float = eqx.field(static=True)
    residual_scale: float = eqx.field(static=True)
    modulated: bool = eqx.field(static=True)
    projected: bool = eqx.field(static=True)
    head: int | None = eqx.field(static=True)
    always: bool = eqx.field(static=True)
    levelled: bool = eqx.field(static=True)
    taps: Taps = eqx.field(static=True)

    def resampled(self, x: Float[Array, "h w c"], resample: Resample) -> Float[Array, "_ _ c"]:
        """Return an image at the size that a block gives it."""
        if resample is Resample.KEEP:
            return x
        return downsampled(x, self.taps) if resample is Resample.HALVE else upsampled(x, self.taps)


def song_style(taps: Taps) -> BlockStyle:
    """SongUNet's blocks. Source: arXiv:2011.13456, appendix H, which sums over sqrt(2); arXiv:2206.00364, table 7."""
    return BlockStyle(
        1e-6, math.sqrt(0.5), modulated=False, projected=True, head=None, always=False, levelled=False, taps=taps
    )


ADM_STYLE = BlockStyle(  # arXiv:2105.05233, section 3
    1e-5, 1.0, modulated=True, projected=False, head=HEAD, always=True, levelled=True, taps=(1, 1)
)


class Block(eqx.Module):
    """`s (skip(x) + conv_2(SiLU(m(norm(conv_1(SiLU(norm(x))), c))))`, then attention if any, again times s.

    m adds W c + b before the norm, or scales by 1 + W c + b and shifts after it; s is the style's residual scale. A
    block that resamples does so before conv_1 and on its skip. conv_2 and attention's last matrix are zero at first.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        width: features of the conditioning vector c.
        style: which of the two styles.
        attend: whether self-attention follows; in a style with heads of some size, if the channels make up one.
        resample: what happens to the image's size.
        key: random key.

    Raises:
        RecipeError: channels that do not fall into the norm's groups or the attention's heads.

    Source: arXiv:2206.00364, appendix F.2, table 7; arXiv:2105.05233, section 3.
    """

    norm_first: GroupNorm
    conv_first: Conv
    modulation: Linear
    norm_last: GroupNorm
    conv_last: Conv
    skip: Linear | None
    attention: SelfAttention | None
    style: BlockStyle = eqx.field(static=True)
    resample: Resample = eqx.field(static=True)

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        width: int,
        style: BlockStyle,
        attend: bool = False,
        resample: Resample = Resample.KEEP,
        *,
        key: Key[Array, ""],
    ) -> None:
        check_groups(channels_in)
        check_groups(channels_out)
        key_first, key_modulation, key_last, key_skip, key_attention = jax.random.split(key, 5)
        matrix = channels_in != channels_out or (resample is not Resample.KEEP and style.projected)
        heads = _heads(channels_out, style.head) if attend else 0
        self.norm_first = GroupNorm(channels_in, style.floor)
        self.conv_first = Conv(channels_in, channels_out, key=key_first)
        self.modulation = Linear(width, channels_out * (2 if style.modulated else 1), key=key_modulation)
        self.norm_last = GroupNorm(channels_out, style.floor)
        self.conv_last = zeroed(Conv(channels_out, channels_out, key=key_last))
        self.skip = Linear(channels_in, channels_out, key=key_skip) if matrix else None
        self.attention = SelfAttention(channels_out, heads, style.floor, key=key_attention) if heads else None
        self.style, self.resample = style, resample

    def __call__(
        self,
        x: Float[Array, "h w channels_in"],
        condition: Float[Array, " width"],
        key: Key[Array, ""] | None = None,
        rate: float = 0.0,
    ) -> Float[Array, "_ _ _"]:
        """Return the block's output for one image; with a key, features before conv_2 are dropped at a rate."""
        modulation = self.modulation(condition)[None, None]
        hidden = self.conv_first(self.style.resampled(jax.nn.silu(self.norm_first(x)), self.resample))
        if self.style.modulated:
            scale, shift = modulation[..., : hidden.shape[-1]], modulation[..., hidden.shape[-1] :]
            hidden = self.norm_last(hidden) * (1 + scale) + shift
        else:
            hidden = self.norm_last(hidden + modulation)
        hidden = self.conv_last(dropout(jax.nn.silu(hidden), rate, key))
        resampled = self.style.resampled(x, self.resample)
        skipped = resampled if self.skip is None else self.skip(resampled)
        out = (hidden + skipped) * self.style.residual_scale
        return out if self.attention is None else self.attention(out) * self.style.residual_scale


def check_groups(channels: int) -> None:
    """Raise RecipeError unless channels fall into the groups that EDM's networks norm together.

    Raises:
        RecipeError: they do not.
    """
    groups = min(32, channels // 4)
    if not groups or channels % groups:
        raise RecipeError(
            f"a block of EDM's networks has {channels} channels; expected a multiple of {groups or 4}: they are normed "
            f"in {groups or 'no'} groups, min(32, channels // 4). Use multiples of 32, or at least of 4 below 128."
        )


def _heads(channels: int, head: int | None) -> int:
    """Heads of a block that is to attend: as many as its channels make up, which may be none."""
    heads = 1 if head is None else channels // head
    if heads and channels % heads:
        raise RecipeError(
            f"a block of EDM's networks attends with {heads} heads, one for every {head} of its {channels} channels; "
            f"expected a multiple of {heads} channels. Use multiples of {head}."
        )
    return heads


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
