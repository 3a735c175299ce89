"""The way in and the way out of a UNet2DModel: levels of blocks at one size, joined by skips."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.networks.diffusers.blocks import Attention, ResnetBlock, Stage
from pplemd.networks.diffusers.convolutions import DoublingConv, HalvingConv, ToImage
from pplemd.networks.diffusers.options import IMAGE, LevelKind, UNet2DOptions
from pplemd.networks.diffusers.style import SKIP_TAPS, BlockStyle, Resize, level_style, middle_style
from pplemd.networks.layers import Conv, Linear
from pplemd.networks.resampling import downsampled, upsampled

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
