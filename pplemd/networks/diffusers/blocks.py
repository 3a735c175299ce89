"""The blocks of a UNet2DModel: residual ones, and attention."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from pplemd.errors import RecipeError
from pplemd.networks.diffusers.activations import ACTIVATIONS
from pplemd.networks.diffusers.style import BlockStyle, Resize
from pplemd.networks.layers import Conv, GroupNorm, Linear, dropout, zeroed


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
