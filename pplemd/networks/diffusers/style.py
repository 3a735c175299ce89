"""What the blocks of one level of a UNet2DModel have in common."""

import math
from enum import Enum

import equinox as eqx
from jaxtyping import Array, Float

from pplemd.errors import RecipeError
from pplemd.networks.diffusers.options import LevelKind, UNet2DOptions
from pplemd.networks.layers import GroupNorm
from pplemd.networks.resampling import Taps, downsampled, upsampled

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
