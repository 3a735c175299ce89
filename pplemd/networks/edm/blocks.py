"""The residual block of EDM's networks, in the two styles that they come in."""

import math
from enum import Enum

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from pplemd.errors import RecipeError
from pplemd.networks.attention import HEAD, SelfAttention
from pplemd.networks.layers import Conv, GroupNorm, Linear, dropout, zeroed
from pplemd.networks.resampling import Taps, downsampled, upsampled


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
        out = (hidden + self._skipped(x)) * self.style.residual_scale
        return out if self.attention is None else self.attention(out) * self.style.residual_scale

    def _skipped(self, x: Array) -> Array:
        resampled = self.style.resampled(x, self.resample)
        return resampled if self.skip is None else self.skip(resampled)


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
