"""Layers for one sample, channels last: convolutions, norms, attention, images halved and doubled."""

import functools
import math
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.errors import RecipeError

LayerT = TypeVar("LayerT", bound=eqx.Module)


def zeroed(layer: LayerT) -> LayerT:
    """Return the layer with every parameter 0, so that a residual branch starts as nothing."""
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_array(leaf) else leaf, layer)


def scaled_normal(key: Key[Array, ""], shape: tuple[int, ...], fan_in: int) -> Float[Array, "..."]:
    """Draw Normal(0, 1 / fan_in) weights.

    The draw is flat and its size a power of two, cut to size: few programs to compile, and flat ones compile fast.

    Args:
        key: random key.
        shape: shape of the weights.
        fan_in: number of inputs that one output sums over.

    Returns:
        The weights, float32.
    """
    size = math.prod(shape)
    flat = jax.random.normal(key, (2 ** (size - 1).bit_length(),))
    return jax.lax.slice(flat, (0,), (size,)).reshape(shape) * fan_in**-0.5


def widened(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return x in at least 32 bits."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)


def dropout(x: Float[Array, "*shape"], rate: float, key: Key[Array, ""] | None) -> Float[Array, "*shape"]:
    """Drop features at random while training, and scale up the rest; without a key, return x.

    Args:
        x: features.
        rate: probability that a feature is dropped, in [0, 1).
        key: random key while training, None otherwise.

    Source: arXiv:1207.0580, with the scaling at training time.
    """
    if key is None or rate == 0.0:
        return x
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / (1.0 - rate), jnp.zeros_like(x))


def branch_keys(key: Key[Array, ""] | None, count: int) -> list[Key[Array, ""] | None]:
    """Return a key for each of `count` branches, or None for each where there is no key."""
    return [None] * count if key is None else list(jax.random.split(key, count))


class Linear(eqx.Module):
    """`y = x W + b` over the last axis, W ~ Normal(0, 1 / size_in), b = 0.

    Args:
        size_in: input features.
        size_out: output features.
        key: random key.
    """

    weight: Float[Array, "size_in size_out"]
    bias: Float[Array, " size_out"]

    def __init__(self, size_in: int, size_out: int, *, key: Key[Array, ""]) -> None:
        self.weight = scaled_normal(key, (size_in, size_out), size_in)
        self.bias = jnp.zeros(size_out)

    def __call__(self, x: Float[Array, "*points size_in"]) -> Float[Array, "*points size_out"]:
        """Apply to every point."""
        bias = jnp.expand_dims(self.bias.astype(x.dtype), tuple(range(x.ndim - 1)))
        return x @ self.weight.astype(x.dtype) + bias


class Conv(eqx.Module):
    """Convolution of one (h, w, c) image with zero padding and stride 1, weights ~ Normal(0, 1 / fan_in), bias 0.

    Args:
        channels_in: input channels.
        channels_out: output channels.
        size: side of the kernel, odd, in pixels.
        key: random key.
    """

    weight: Float[Array, "size size channels_in channels_out"]
    bias: Float[Array, " channels_out"]

    def __init__(self, channels_in: int, channels_out: int, size: int = 3, *, key: Key[Array, ""]) -> None:
        self.weight = scaled_normal(key, (size, size, channels_in, channels_out), size * size * channels_in)
        self.bias = jnp.zeros(channels_out)

    def __call__(self, x: Float[Array, "h w channels_in"]) -> Float[Array, "h w channels_out"]:
        """Convolve; height and width are kept."""
        image = jax.lax.conv_general_dilated(
            x[None], self.weight.astype(x.dtype), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[0]
        return image + self.bias.astype(x.dtype)[None, None]


def layer_norm(x: Float[Array, " width"]) -> Float[Array, " width"]:
    """Return x with mean 0 and variance 1, without parameters.

    Source: arXiv:1607.06450, equation 3, gain 1 and bias 0.
    """
    wide = widened(x)  # moments in 32 bits whatever the input
    centred = wide - wide.mean((0,), keepdims=True)
    variance = jnp.mean(centred**2, (0,), keepdims=True)
    return (centred * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype)  # 1e-5: the floor of the source's code


class LayerNorm(eqx.Module):
    """`layer_norm` of every point, scaled and shifted feature by feature; scale 1 and shift 0 at the start.

    Args:
        width: features of a point.

    Source: arXiv:1607.06450, equation 3.
    """

    scale: Float[Array, " width"]
    shift: Float[Array, " width"]

    def __init__(self, width: int) -> None:
        self.scale = jnp.ones(width)
        self.shift = jnp.zeros(width)

    def __call__(self, x: Float[Array, "points width"]) -> Float[Array, "points width"]:
        """Normalise every point by itself."""
        normed = jax.vmap(layer_norm)(x)
        return normed * self.scale.astype(x.dtype)[None] + self.shift.astype(x.dtype)[None]


class GroupNorm(eqx.Module):
    """Standardise groups of channels over the image, then scale and shift each channel, reading the image once.

    Where the number of groups is not given, it is the largest divisor of the channels that is at most 32 and leaves 4
    channels a group.
    Moments are taken in 32 bits. Their variance is E[x^2] - E[x]^2, good where a group's mean is not hundreds of times
    its standard deviation; a group of several channels after a convolution is far from that.

    Args:
        channels: channels of the image.
        floor: added to the variance; 1e-5 is that of arXiv:1607.06450's code.
        groups: number of groups, a divisor of the channels; None for the rule above.

    Source: arXiv:1803.08494, equations 1 and 7.
    """

    scale: Float[Array, " channels"]
    shift: Float[Array, " channels"]
    groups: int = eqx.field(static=True)
    floor: float = eqx.field(static=True)

    def __init__(self, channels: int, floor: float = 1e-5, groups: int | None = None) -> None:
        most = min(
            32, max(1, channels // 4)
        )  # 32: the source's default; 4 a group, so that a small one is not one pixel
        self.groups = groups or max(count for count in range(1, most + 1) if channels % count == 0)
        self.scale = jnp.ones(channels)
        self.shift = jnp.zeros(channels)
        self.floor = floor

    def __call__(self, x: Float[Array, "h w channels"]) -> Float[Array, "h w channels"]:
        """Normalise one image."""
        wide = widened(x)
        mean, square = self._grouped(wide.mean((0, 1))), self._grouped(jnp.mean(wide**2, (0, 1)))
        rate = jax.lax.rsqrt(jnp.maximum(square - mean**2, 0) + self.floor)
        gain = self.scale.astype(wide.dtype) * rate
        offset = self.shift.astype(wide.dtype) - mean * gain
        return (wide * gain[None, None] + offset[None, None]).astype(x.dtype)

    def _grouped(self, moments: Float[Array, " channels"]) -> Float[Array, " channels"]:
        """Each channel's moment replaced by its group's."""
        size = moments.shape[0] // self.groups
        means = moments.reshape(self.groups, size).mean(1, keepdims=True)
        return jnp.broadcast_to(means, (self.groups, size)).reshape(-1)


Taps = tuple[int | float, ...]  # weights of the filter along one axis, even in number, of any sum but 0


def check_taps(owner: str, taps: Taps) -> None:
    """Raise RecipeError unless a filter keeps halves and doubles of an image in step.

    Raises:
        RecipeError: an odd number of taps, or taps that sum to 0.
    """
    if not taps or len(taps) % 2 or sum(taps) == 0:
        raise RecipeError(
            f"{owner}: the resampling filter is {taps}; expected an even number of weights whose sum is not 0. "
            "Usual are (1, 1) and (1, 3, 3, 1)."
        )


def margin(taps: Taps) -> int:
    """Pixels of padding on each side that keep a halved image centred."""
    return (len(taps) - 1) // 2


def padded(x: Float[Array, "h w c"], pixels: int) -> Float[Array, "h+2*{pixels} w+2*{pixels} c"]:
    """Return the image with zeros around it."""
    return jnp.pad(x, ((pixels, pixels), (pixels, pixels), (0, 0)))


def decimated(x: Float[Array, "h w c"], taps: Taps) -> Float[Array, "_ _ c"]:
    """Return every second pixel of the image filtered along both axes, without padding.

    `y_i = sum_j f_j x_{2i + j}` along each axis, f the taps over their sum.

    Args:
        x: one image.
        taps: the filter.
    """
    return _decimated(_decimated(x, 0, taps), 1, taps)


def downsampled(x: Float[Array, "h w c"], taps: Taps = (1, 1)) -> Float[Array, "h//2 w//2 c"]:
    """Return the image at half its size, filtered, zeros beyond its border. Taps (1, 1) are average pooling."""
    return decimated(padded(x, margin(taps)), taps)


def upsampled(x: Float[Array, "h w c"], taps: Taps = (1, 1)) -> Float[Array, "2*h 2*w c"]:
    """Return the image at twice its size: the transpose of `downsampled`, times 4. Taps (1, 1) repeat pixels.

    `y_k = sum_i 2 f_{k + margin - 2i} x_i` along each axis, f the taps over their sum.

    Args:
        x: one image.
        taps: the filter.
    """
    return _doubled(_doubled(x, 0, taps), 1, taps)


def _decimated(x: Array, axis: int, taps: Taps) -> Array:
    count = (x.shape[axis] - len(taps)) // 2 + 1
    terms = [
        tap / sum(taps) * jax.lax.slice_in_dim(x, start, start + 2 * count - 1, 2, axis)
        for start, tap in enumerate(taps)
    ]
    return functools.reduce(jnp.add, terms)


def _doubled(x: Array, axis: int, taps: Taps) -> Array:
    """Even and odd pixels of the result are filtered apart, by every second tap, and put in turn."""
    size, reach = x.shape[axis], len(taps) // 2
    wide = jnp.pad(x, [(reach, reach) if at == axis else (0, 0) for at in range(3)])
    phases = []
    for phase in (0, 1):
        terms = []
        for at, tap in enumerate(taps):
            shift, odd = divmod(phase + margin(taps) - at, 2)  # k + margin - 2i = at: i = (k + margin - at) / 2
            if not odd:
                terms.append(
                    2 * tap / sum(taps) * jax.lax.slice_in_dim(wide, reach + shift, reach + shift + size, 1, axis)
                )
        phases.append(functools.reduce(jnp.add, terms))
    stacked = jnp.stack(phases, axis + 1)
    return stacked.reshape([2 * size if at == axis else side for at, side in enumerate(x.shape)])


HEAD = 64  # features a head: arXiv:2105.05233, section 3


def attend(
    query: Float[Array, "tokens heads feature"],
    key: Float[Array, "tokens heads feature"],
    value: Float[Array, "tokens heads feature"],
) -> Float[Array, "tokens heads feature"]:
    """Every token sees every token: softmax(q k^T / sqrt(features)) v, in each head; the softmax in 32 bits.

    On NVIDIA GPUs, 16-bit inputs go through cuDNN's flash attention, where it takes them: nothing of size tokens^2 is
    kept. It has a gradient but no forward-mode derivative.

    Source: arXiv:1706.03762, section 3.2.1; arXiv:2205.14135.
    """
    with jax.numpy_dtype_promotion("standard"):
        if _flash(query):
            try:
                return jax.nn.dot_product_attention(query, key, value, implementation="cudnn")
            except (RuntimeError, ValueError, NotImplementedError):  # no cuDNN, or one that lacks these shapes
                pass
        return jax.nn.dot_product_attention(query, key, value)


def _flash(query: Array) -> bool:
    """Whether cuDNN's attention may take such inputs on the device that JAX runs on by default."""
    if query.dtype not in (jnp.bfloat16, jnp.float16) or query.shape[-1] % 8 or query.shape[-1] > 128:
        return False
    capability = str(getattr(jax.devices()[0], "compute_capability", "0"))  # "9.0"; another's is no number, or missing
    return capability.replace(".", "", 1).isdigit() and float(capability) >= 8


class SelfAttention(eqx.Module):
    """`x + W_out attend(q, k, v)` with q, k, v linear in norm(x), every pixel seeing every pixel; W_out zero at first.

    There is no position encoding: permuting the pixels permutes the output. Heads have 64 features, or there is one
    head where 64 does not divide the channels.

    Args:
        channels: channels of the image.
        heads: number of heads, a divisor of the channels; None for the rule above.
        floor: of the variance, in the norm.
        key: random key.

    Source: arXiv:1706.03762, section 3.2.
    """

    norm: GroupNorm
    project_in: Linear
    project_out: Linear
    heads: int = eqx.field(static=True)

    def __init__(self, channels: int, heads: int | None = None, floor: float = 1e-5, *, key: Key[Array, ""]) -> None:
        key_in, key_out = jax.random.split(key)
        self.norm = GroupNorm(channels, floor)
        self.project_in = Linear(channels, 3 * channels, key=key_in)
        self.project_out = zeroed(Linear(channels, channels, key=key_out))
        self.heads = heads or (channels // HEAD if channels % HEAD == 0 else 1)

    def __call__(self, x: Float[Array, "h w channels"]) -> Float[Array, "h w channels"]:
        """Attend over one image."""
        channels = x.shape[-1]
        tokens = self.project_in(self.norm(x).reshape(-1, channels))
        query, key, value = tokens.reshape(-1, 3, self.heads, channels // self.heads).swapaxes(0, 1)
        attended = attend(query, key, value)
        return x + self.project_out(attended.reshape(-1, channels)).reshape(x.shape)
