"""Blocks of a UNet2DModel, and its levels: the way in and the way out, joined by skips."""

import math
from collections.abc import Callable
from enum import Enum

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.errors import RecipeError
from pplemd.networks.diffusers.options import ACTIVATIONS, IMAGE, LevelKind, UNet2DOptions
from pplemd.networks.layers import Conv, GroupNorm, Linear, Taps, downsampled, dropout, upsampled, zeroed

SKIP_TAPS: Taps = (1, 3, 3, 1)  # of levels with a skip: arXiv:2011.13456, appendix H
SKIP_GROUPS = 32  # that attention's norm takes in levels with a skip


class Resize(Enum):
    """What a block does to the size of its image."""

    KEEP = "keep"
    HALVE = "halve"
    DOUBLE = "double"


class BlockStyle(eqx.Module):
    """What the blocks of one level have in common.

    Attributes:
        groups: that norms take channels in; None for min(32, channels // 4).
        attention_groups: that attention's norm takes; None for no norm.
        floor: of the variance, in norms.
        modulated: whether the conditioning vector scales and shifts after the second norm, or is added before it.
        activation: of blocks.
        head: features of an attention head; None for one head.
        scale: what every sum of a branch and what it branched from is divided by.
        taps: filter of blocks that halve and double images; (1, 1) pools and repeats pixels.
        projected: whether a block that changes its image's size has a matrix on its skip, even between equal channels.
    """

    groups: int | None = eqx.field(static=True)
    attention_groups: int | None = eqx.field(static=True)
    floor: float = eqx.field(static=True)
    modulated: bool = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    head: int | None = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    taps: Taps = eqx.field(static=True)
    projected: bool = eqx.field(static=True)

    def norm(self, channels: int, groups: int | None = None) -> GroupNorm:
        """Return the norm of some channels.

        Args:
            channels: of the image.
            groups: other than the style's.

        Raises:
            RecipeError: channels that do not fall into the groups.
        """
        count = groups or self.groups or min(32, channels // 4)
        if not count or channels % count:
            raise RecipeError(
                f"UNet2DModel: {channels} channels are normed in {count} groups; expected a multiple of "
                f"{count or 4} channels. Take other channels, or other groups (norm_num_groups)."
            )
        return GroupNorm(channels, self.floor, count)

    def resized(self, x: Float[Array, "h w c"], resize: Resize) -> Float[Array, "_ _ c"]:
        """Return an image at the size that a block gives it."""
        if resize is Resize.KEEP:
            return x
        return downsampled(x, self.taps) if resize is Resize.HALVE else upsampled(x, self.taps)


def level_style(options: UNet2DOptions, kind: LevelKind) -> BlockStyle:
    """The style of a level's blocks."""
    groups = None if kind.skip else options.groups
    return BlockStyle(
        groups=groups,
        attention_groups=SKIP_GROUPS if kind.skip else groups,
        floor=options.floor,
        modulated=options.modulated,
        activation=options.activation,
        head=options.head,
        scale=math.sqrt(2) if kind.skip else 1.0,
        taps=SKIP_TAPS if kind.skip else (1, 1),
        projected=kind.skip,
    )


def middle_style(options: UNet2DOptions) -> BlockStyle:
    """The style of the blocks between the way in and the way out."""
    usual = options.groups or min(32, options.channels[-1] // 4)
    return BlockStyle(
        groups=usual,
        attention_groups=options.middle_groups or (None if options.modulated else usual),
        floor=options.floor,
        modulated=options.modulated,
        activation=options.activation,
        head=options.head,
        scale=options.middle_scale,
        taps=(1, 1),
        projected=False,
    )


class ResnetBlock(eqx.Module):
    """`(skip(x) + conv_2(a(m(norm(conv_1(a(norm(x)))), c)))) / s`, a the style's activation and s its scale.

    m adds W c + b before the norm, or scales by 1 + W c + b and shifts after it. A block that changes its image's size
    does so before conv_1 and on its skip. conv_2 is zero at first.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        width: features of the conditioning vector c.
        style: of the level.
        resize: what happens to the image's size.
        groups: of the first norm, other than the style's.
        key: random key.

    Raises:
        RecipeError: channels that do not fall into the norms' groups.

    Source: arXiv:2006.11239, appendix B; arXiv:2105.05233, section 3 (scale and shift); arXiv:2011.13456, appendix H.
    """

    norm_first: GroupNorm
    conv_first: Conv
    modulation: Linear
    norm_last: GroupNorm
    conv_last: Conv
    skip: Linear | None
    style: BlockStyle = eqx.field(static=True)
    resize: Resize = eqx.field(static=True)

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        width: int,
        style: BlockStyle,
        resize: Resize = Resize.KEEP,
        groups: int | None = None,
        *,
        key: Key[Array, ""],
    ) -> None:
        key_first, key_modulation, key_last, key_skip = jax.random.split(key, 4)
        matrix = channels_in != channels_out or (resize is not Resize.KEEP and style.projected)
        self.norm_first = style.norm(channels_in, groups)
        self.conv_first = Conv(channels_in, channels_out, key=key_first)
        self.modulation = Linear(width, channels_out * (2 if style.modulated else 1), key=key_modulation)
        self.norm_last = style.norm(channels_out)
        self.conv_last = zeroed(Conv(channels_out, channels_out, key=key_last))
        self.skip = Linear(channels_in, channels_out, key=key_skip) if matrix else None
        self.style, self.resize = style, resize

    def __call__(
        self,
        x: Float[Array, "h w channels_in"],
        condition: Float[Array, " width"],
        key: Key[Array, ""] | None = None,
        rate: float = 0.0,
    ) -> Float[Array, "_ _ _"]:
        """Return the block's output for one image; with a key, features before conv_2 are dropped at a rate."""
        activate = ACTIVATIONS[self.style.activation]
        modulation = self.modulation(condition).astype(x.dtype)[None, None]
        hidden = self.conv_first(self.style.resized(activate(self.norm_first(x)), self.resize))
        if self.style.modulated:
            scale, shift = modulation[..., : hidden.shape[-1]], modulation[..., hidden.shape[-1] :]
            hidden = self.norm_last(hidden) * (1 + scale) + shift
        else:
            hidden = self.norm_last(hidden + modulation)
        hidden = self.conv_last(dropout(activate(hidden), rate, key))
        aside = self.style.resized(x, self.resize)
        return (hidden + (aside if self.skip is None else self.skip(aside))) / self.style.scale


class Attention(eqx.Module):
    """`(x + W attend(q, k, v) + b) / s`, q, k, v linear in norm(x), every pixel seeing every pixel; W zero at first.

    Args:
        channels: channels of the image.
        style: of the level.
        key: random key.

    Raises:
        RecipeError: a head of more features than there are channels, or channels that do not fall into groups.

    Source: arXiv:1706.03762, section 3.2.
    """

    norm: GroupNorm | None
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    heads: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(self, channels: int, style: BlockStyle, *, key: Key[Array, ""]) -> None:
        head = style.head or channels
        if head > channels:
            raise RecipeError(
                f"UNet2DModel: attention heads of {head} features for {channels} channels; expected heads of as many "
                "or fewer (attention_head_dim), or None for one head."
            )
        key_query, key_key, key_value, key_out = jax.random.split(key, 4)
        self.heads, self.scale = channels // head, style.scale
        inner = self.heads * head
        self.norm = None if style.attention_groups is None else style.norm(channels, style.attention_groups)
        self.query = Linear(channels, inner, key=key_query)
        self.key = Linear(channels, inner, key=key_key)
        self.value = Linear(channels, inner, key=key_value)
        self.out = zeroed(Linear(inner, channels, key=key_out))

    def __call__(self, x: Float[Array, "h w channels"]) -> Float[Array, "h w channels"]:
        """Attend over one image."""
        normed = x if self.norm is None else self.norm(x)
        tokens = normed.reshape(-1, x.shape[-1])
        query, key, value = (
            layer(tokens).reshape(len(tokens), self.heads, -1) for layer in (self.query, self.key, self.value)
        )
        with jax.numpy_dtype_promotion("standard"):  # JAX computes the softmax of 16-bit inputs in 32 bits
            attended = jax.nn.dot_product_attention(query, key, value)
        return (x + self.out(attended.reshape(len(tokens), -1)).reshape(x.shape)) / self.scale


class Stage(eqx.Module):
    """A residual block, then attention if any.

    Attributes:
        block: the block.
        attention: on what it returned, or None.
    """

    block: ResnetBlock
    attention: Attention | None = None

    def __call__(
        self,
        x: Float[Array, "h w channels_in"],
        condition: Float[Array, " width"],
        key: Key[Array, ""] | None = None,
        rate: float = 0.0,
    ) -> Float[Array, "_ _ _"]:
        """Return the output for one image; with a key, features of the block are dropped at a rate."""
        hidden = self.block(x, condition, key, rate)
        return hidden if self.attention is None else self.attention(hidden)


class HalvingConv(eqx.Module):
    """A 3 x 3 convolution at every second pixel.

    Args:
        channels: channels of input and output.
        evenly: whether a pixel of zeros is put on each side, or on the far sides alone.
        key: random key.
    """

    conv: Conv
    evenly: bool = eqx.field(static=True)

    def __init__(self, channels: int, evenly: bool, *, key: Key[Array, ""]) -> None:
        self.conv = Conv(channels, channels, key=key)
        self.evenly = evenly

    def __call__(self, x: Float[Array, "h w channels"]) -> Float[Array, "h//2 w//2 channels"]:
        """One image at half its size."""
        margin = (1, 1) if self.evenly else (0, 1)
        weight, bias = self.conv.weight.astype(x.dtype), self.conv.bias.astype(x.dtype)
        image = jax.lax.conv_general_dilated(
            x[None], weight, (2, 2), (margin, margin), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[0]
        return image + bias[None, None]


class DoublingConv(eqx.Module):
    """Pixels repeated, then a 3 x 3 convolution.

    Args:
        channels: channels of input and output.
        key: random key.
    """

    conv: Conv

    def __init__(self, channels: int, *, key: Key[Array, ""]) -> None:
        self.conv = Conv(channels, channels, key=key)

    def __call__(self, x: Float[Array, "h w channels"]) -> Float[Array, "2*h 2*w channels"]:
        """One image at twice its size."""
        return self.conv(upsampled(x))


class ToImage(eqx.Module):
    """Features to an image: `conv(SiLU(norm(x)))`, zero at the start.

    Args:
        channels_in: channels of the features.
        channels_out: channels of the image.
        norm: of the features.
        key: random key.
    """

    norm: GroupNorm
    conv: Conv

    def __init__(self, channels_in: int, channels_out: int, norm: GroupNorm, *, key: Key[Array, ""]) -> None:
        self.norm = norm
        self.conv = zeroed(Conv(channels_in, channels_out, key=key))

    def __call__(self, x: Float[Array, "h w channels_in"]) -> Float[Array, "h w channels_out"]:
        """One image."""
        return self.conv(jax.nn.silu(self.norm(x)))


Run = Callable[[Stage, Array], Array]  # applies a stage, knowing the conditioning vector and the dropout


class DownLevel(eqx.Module):
    """The way in, at one size.

    Attributes:
        stages: at this size.
        down: halves the features; None at the coarsest size.
        side: takes the halved image to the features, where the level has a skip; None otherwise.
    """

    stages: tuple[Stage, ...]
    down: HalvingConv | Stage | None
    side: Linear | None


class Encoder(eqx.Module):
    """A convolution, then levels.

    Args:
        options: sizes and kinds of the network.
        key: random key.

    Source: arXiv:2006.11239, appendix B; with skips, arXiv:2011.13456, appendix H.
    """

    first: Conv
    levels: tuple[DownLevel, ...]  # finest first

    def __init__(self, options: UNet2DOptions, *, key: Key[Array, ""]) -> None:
        key_first, *keys = jax.random.split(key, len(options.channels) + 1)
        self.first = Conv(options.shape[2], options.channels[0], key=key_first)
        channels, levels = options.channels[0], list[DownLevel]()
        for out, kind, key_level in zip(options.channels, options.down, keys, strict=True):
            last = len(levels) == len(options.channels) - 1
            levels.append(_down_level(options, kind, (channels, out), last, key=key_level))
            channels = out
        self.levels = tuple(levels)

    def __call__(self, x: Float[Array, "h w c"], run: Run) -> list[Array]:
        """Return what the first convolution and every stage and halving made of one image, in order."""
        skips, aside = [self.first(x)], x
        for level in self.levels:
            for stage in level.stages:
                skips.append(run(stage, skips[-1]))
            if level.down is not None:
                hidden = _resized(level.down, skips[-1], run)
                if level.side is not None:
                    aside = downsampled(aside, SKIP_TAPS)
                    hidden = level.side(aside) + hidden
                skips.append(hidden)
        return skips


class UpLevel(eqx.Module):
    """The way out, at one size.

    Attributes:
        stages: at this size; each also takes one skip of the way in, the last one first.
        up: doubles the features; None at full size.
        output: what the level adds to the image, where it has a skip and is not at full size; None otherwise.
        skip: whether the level doubles the image that the levels before built up.
    """

    stages: tuple[Stage, ...]
    up: DoublingConv | Stage | None
    output: ToImage | None
    skip: bool = eqx.field(static=True)


class Decoder(eqx.Module):
    """The middle, levels, and a convolution that makes the image.

    Args:
        options: sizes and kinds of the network.
        key: random key.

    Source: arXiv:2006.11239, appendix B; with skips, arXiv:2011.13456, appendix H.
    """

    middle: tuple[Stage, ...]
    levels: tuple[UpLevel, ...]  # coarsest first
    last: ToImage

    def __init__(self, options: UNet2DOptions, *, key: Key[Array, ""]) -> None:
        key_middle, key_last, *keys = jax.random.split(key, len(options.channels) + 2)
        self.middle = _middle(options, key=key_middle) if options.middle else ()
        skips, hidden, levels = _skips(options), options.channels[-1], list[UpLevel]()
        for out, kind, key_level in zip(reversed(options.channels), options.up, keys, strict=True):
            entering = [skips.pop() for _ in range(options.blocks + 1)]
            last = len(levels) == len(options.channels) - 1
            levels.append(_up_level(options, kind, (hidden, out), entering, last, key=key_level))
            hidden = out
        self.levels = tuple(levels)
        norm = level_style(options, LevelKind()).norm(hidden)
        self.last = ToImage(hidden, options.computed, norm, key=key_last)

    def __call__(self, skips: list[Array], run: Run) -> Float[Array, "h w c"]:
        """Return the image for what the encoder returned, which is used up."""
        hidden, image = skips[-1], None
        for stage in self.middle:
            hidden = run(stage, hidden)
        for level in self.levels:
            for stage in level.stages:
                hidden = run(stage, jnp.concatenate([hidden, skips.pop()], -1))
            if level.skip and image is not None:
                image = upsampled(image, SKIP_TAPS)
            if level.output is not None:
                added = level.output(hidden)
                image = added if image is None else image + added
            if level.up is not None:
                hidden = _resized(level.up, hidden, run)
        made = self.last(hidden)
        return made if image is None else made + image


def _resized(layer: HalvingConv | DoublingConv | Stage, x: Array, run: Run) -> Array:
    return run(layer, x) if isinstance(layer, Stage) else layer(x)


def _stage(
    sizes: tuple[int, int],
    width: int,
    style: BlockStyle,
    attend: bool,
    groups: int | None = None,
    *,
    key: Key[Array, ""],
) -> Stage:
    """A stage from some channels to others, the first norm of other groups than the style's where they are given."""
    key_block, key_attention = jax.random.split(key)
    block = ResnetBlock(*sizes, width, style, groups=groups, key=key_block)
    return Stage(block, Attention(sizes[1], style, key=key_attention) if attend else None)


def _down_level(
    options: UNet2DOptions, kind: LevelKind, sizes: tuple[int, int], last: bool, *, key: Key[Array, ""]
) -> DownLevel:
    """A level of the way in, from the channels of the level before to its own; the last one does not halve."""
    (entering, out), style, width = sizes, level_style(options, kind), options.features
    key_down, key_side, *keys = jax.random.split(key, options.blocks + 2)
    inputs = [entering, *[out] * (options.blocks - 1)]
    stages = tuple(_stage((size, out), width, style, kind.attend, key=k) for size, k in zip(inputs, keys, strict=True))
    if last:
        return DownLevel(stages, None, None)
    if not kind.resize:
        return DownLevel(stages, HalvingConv(out, options.padded_evenly, key=key_down), None)
    down = Stage(ResnetBlock(out, out, width, style, Resize.HALVE, key=key_down))
    return DownLevel(stages, down, Linear(IMAGE, out, key=key_side) if kind.skip else None)


def _up_level(
    options: UNet2DOptions,
    kind: LevelKind,
    sizes: tuple[int, int],
    entering: list[int],
    last: bool,
    *,
    key: Key[Array, ""],
) -> UpLevel:
    """A level of the way out: channels of the level before and its own, and of its skips; the last does not double."""
    (hidden, out), style, width = sizes, level_style(options, kind), options.features
    key_up, key_output, *keys = jax.random.split(key, options.blocks + 3)
    stages = []
    for i, (skip, key_stage) in enumerate(zip(entering, keys, strict=True)):
        attend, size = kind.attend and (not kind.skip or i == options.blocks), hidden if i == 0 else out
        # the original divides only the skip's channels by 4 there, and its checkpoints were trained so
        groups = min(size + skip // 4, 32) if kind.skip and kind.attend else None
        stages.append(_stage((size + skip, out), width, style, attend, groups, key=key_stage))
    if last:
        return UpLevel(tuple(stages), None, None, kind.skip)
    if not kind.resize:
        return UpLevel(tuple(stages), DoublingConv(out, key=key_up), None, kind.skip)
    up = Stage(ResnetBlock(out, out, width, style, Resize.DOUBLE, key=key_up))
    output = ToImage(out, IMAGE, style.norm(out), key=key_output) if kind.skip else None
    return UpLevel(tuple(stages), up, output, kind.skip)


def _middle(options: UNet2DOptions, *, key: Key[Array, ""]) -> tuple[Stage, ...]:
    key_first, key_last = jax.random.split(key)
    style, sizes = middle_style(options), (options.channels[-1], options.channels[-1])
    first = _stage(sizes, options.features, style, options.middle_attend, key=key_first)
    return first, _stage(sizes, options.features, style, False, key=key_last)


def _skips(options: UNet2DOptions) -> list[int]:
    """Channels of what the encoder returns, in order."""
    found = [options.channels[0]]
    for level, out in enumerate(options.channels):
        found += [out] * (options.blocks + (level < len(options.channels) - 1))
    return found
