"""Convolutions of a UNet2DModel that halve and double an image, and the one that makes it."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from pplemd.networks.layers import Conv, GroupNorm, zeroed
from pplemd.networks.resampling import upsampled


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
