"""A transformer over the patches of a small image, given time and class by tokens of their own."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.errors import RecipeError
from pplemd.networks.base import AbstractClassNetwork, Label, check_input, check_shape, check_sizes
from pplemd.networks.edm import PositionalNoise
from pplemd.networks.edm.options import waves
from pplemd.networks.embeddings import refuse_label
from pplemd.networks.layers import LayerNorm, Linear, scaled_normal, zeroed


class TransformerBlock(eqx.Module):
    """`h = norm(t + attend(t))`, then `norm(h + W_2 GELU(W_1 h))`: norms after the sums, GELU exact.

    Args:
        width: features of a token.
        hidden: features between W_1 and W_2.
        heads: attention heads, a divisor of the width.
        key: random key.

    Source: arXiv:1706.03762, section 3.1.
    """

    project_in: Linear  # to queries, keys and values, (3, head, feature)
    project_out: Linear
    norm_attended: LayerNorm
    first: Linear
    last: Linear
    norm_last: LayerNorm
    heads: int = eqx.field(static=True)

    def __init__(self, width: int, hidden: int, heads: int, *, key: Key[Array, ""]) -> None:
        key_in, key_out, key_first, key_last = jax.random.split(key, 4)
        self.project_in = Linear(width, 3 * width, key=key_in)
        self.project_out = Linear(width, width, key=key_out)
        self.norm_attended = LayerNorm(width)
        self.first = Linear(width, hidden, key=key_first)
        self.last = Linear(hidden, width, key=key_last)
        self.norm_last = LayerNorm(width)
        self.heads = heads

    def __call__(self, tokens: Float[Array, "tokens width"]) -> Float[Array, "tokens width"]:
        """Every token sees every token."""
        count, width = tokens.shape
        query, key, value = self.project_in(tokens).reshape(count, 3, self.heads, width // self.heads).swapaxes(0, 1)
        with jax.numpy_dtype_promotion("standard"):  # JAX computes the softmax of 16-bit inputs in 32 bits
            attended = jax.nn.dot_product_attention(query, key, value)
        tokens = self.norm_attended(tokens + self.project_out(attended.reshape(count, width)))
        return self.norm_last(tokens + self.last(jax.nn.gelu(self.first(tokens), approximate=False)))


class ToPixels(eqx.Module):
    """Each token becomes a patch of pixels, `t W`, plus one number a channel; zero at the start.

    Args:
        width: features of a token.
        patch: side of a patch, in pixels.
        channels: channels of the image.
        key: random key.
    """

    weight: Float[Array, "width pixels"]
    bias: Float[Array, " channels"]

    def __init__(self, width: int, patch: int, channels: int, *, key: Key[Array, ""]) -> None:
        self.weight = scaled_normal(key, (width, patch * patch * channels), width)
        self.bias = jnp.zeros(channels)

    def __call__(self, tokens: Float[Array, "tokens width"]) -> Float[Array, "tokens pixels"]:
        """Pixels of each token's patch, row by row, channels last."""
        pixels = tokens @ self.weight.astype(tokens.dtype)
        bias = jnp.tile(self.bias, pixels.shape[1] // self.bias.shape[0])
        return pixels + bias.astype(tokens.dtype)[None]


class PixelTransformer(AbstractClassNetwork):
    """Patches of the image as tokens, with tokens of the time and of the class beside them; patches come back out.

    The time's tokens are sines and cosines of it; the class's are trained, and so are those of no class. The output is
    0 at the start.

    Args:
        shape: (h, w, c) of one image, h and w divisible by the patch.
        patch: side of a patch, in pixels.
        width: features of a token, even.
        layers: number of blocks.
        heads: attention heads, a divisor of the width.
        hidden: features inside a block; 4 times the width by default.
        extra: tokens of the time, and as many of the class.
        classes: number of labels, None for none.
        key: random key.

    Raises:
        RecipeError: a size below 1, a patch that does not divide the image, or heads that do not divide the width.

    Source: arXiv:2209.12152, section 3 (time and class as tokens); arXiv:2010.11929, section 3.1 (patches).
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True)
    patch: int = eqx.field(static=True)
    extra: int = eqx.field(static=True)
    first: Linear
    positions: Float[Array, "patches width"]
    labels: Float[Array, "classes_and_none _"] | None  # of every class, and last that of no class
    blocks: tuple[TransformerBlock, ...]
    last: ToPixels

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        patch: int = 7,
        width: int = 64,
        layers: int = 4,
        heads: int = 4,
        hidden: int | None = None,
        extra: int = 2,
        classes: int | None = None,
        key: Key[Array, ""],
    ) -> None:
        sizes = {"patch": patch, "width": width, "layers": layers, "heads": heads, "hidden": hidden, "extra": extra}
        check_sizes("PixelTransformer", sizes | {"classes": classes})
        check_shape("PixelTransformer", "shape", shape)
        _check_division(shape, patch, width, heads)
        key_first, key_positions, key_labels, key_last, key_blocks = jax.random.split(key, 5)
        self.shape, self.classes, self.patch, self.extra = shape, classes, patch, extra
        self.first = Linear(patch * patch * shape[2], width, key=key_first)
        patches = (shape[0] // patch) * (shape[1] // patch)
        self.positions = scaled_normal(key_positions, (patches, width), 1)
        self.labels = None if classes is None else scaled_normal(key_labels, (classes + 1, extra * width), 1)
        self.blocks = tuple(
            TransformerBlock(width, hidden or 4 * width, heads, key=key_block)
            for key_block in jax.random.split(key_blocks, layers)
        )
        self.last = zeroed(ToPixels(width, patch, shape[2], key=key_last))

    def __call__(
        self,
        x: Float[Array, "*shape"],
        time: Float[Array, ""] | float,
        label: Label = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "*shape"]:
        """Return the raw prediction for one image; see AbstractClassNetwork."""
        check_input("PixelTransformer", x.shape, self.shape)
        (height, width, channels), side = x.shape, self.patch
        grid = (height // side, side, width // side, side, channels)
        patches = x.reshape(grid).swapaxes(1, 2).reshape(len(self.positions), -1)
        tokens = self.first(patches) + self.positions.astype(x.dtype)
        tokens = jnp.concatenate([tokens, *self._conditions(time, label, x.dtype)])
        for block in self.blocks:
            tokens = block(tokens)
        pixels = self.last(tokens[: len(self.positions)])
        return pixels.reshape(grid[0], grid[2], side, side, channels).swapaxes(1, 2).reshape(x.shape)

    def _conditions(self, time: Float[Array, ""] | float, label: Label, dtype) -> list[Float[Array, "extra width"]]:
        """The tokens of the time, then those of the class where the network has classes.

        Raises:
            RecipeError: a label for a network without classes.
        """
        width = self.positions.shape[1]
        cosines, sines = waves(PositionalNoise(), time, self.extra * width // 2)
        tokens = [jnp.concatenate([sines, cosines])]
        if self.labels is None:
            refuse_label(label, "PixelTransformer")
        else:
            none = self.labels.shape[0] - 1
            chosen = jnp.asarray(none if label is None else label)
            tokens.append(self.labels[jnp.where((chosen >= 0) & (chosen < none), chosen, none)])
        return [row.astype(dtype).reshape(self.extra, width) for row in tokens]


def _check_division(shape: tuple[int, ...], patch: int, width: int, heads: int) -> None:
    if len(shape) != 3 or shape[0] % patch or shape[1] % patch:
        raise RecipeError(
            f"PixelTransformer: shape is {shape} with patches of {patch} x {patch}; expected (h, w, c) with h and w "
            "divisible by the patch. Take another patch, or pad the images."
        )
    if width % heads or width % 2:
        raise RecipeError(
            f"PixelTransformer: width is {width} with {heads} heads; expected an even width that the heads divide. "
            "Take a width that is a multiple of twice the heads."
        )
