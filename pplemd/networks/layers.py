"""Layers for one sample, channels last; parameters follow the input's dtype."""

import math
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

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
