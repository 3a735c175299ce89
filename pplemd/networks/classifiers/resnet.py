"""The residual networks of CIFAR-10: three stages of blocks, pooled."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.networks.classifiers.base import AbstractClassifier, View
from pplemd.networks.layers import Linear, scaled_normal

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which they were trained with
FLOOR = 1e-5  # added to variances: PyTorch's default, with which they were trained


class NormedConv(eqx.Module):
    """A 3 x 3 convolution without bias, then batch normalisation by moments that were learned: no batch is seen.

    Source: arXiv:1502.03167, algorithm 2 (inference).

    Args:
        channels_in: input channels.
        channels_out: output channels.
        key: random key.
    """

    weight: Float[Array, "3 3 channels_in channels_out"]
    scale: Float[Array, " channels_out"]
    shift: Float[Array, " channels_out"]
    mean: Float[Array, " channels_out"]
    variance: Float[Array, " channels_out"]

    def __init__(self, channels_in: int, channels_out: int, *, key: Key[Array, ""]) -> None:
        self.weight = scaled_normal(key, (3, 3, channels_in, channels_out), 9 * channels_in)
        self.scale, self.variance = jnp.ones(channels_out), jnp.ones(channels_out)
        self.shift, self.mean = jnp.zeros(channels_out), jnp.zeros(channels_out)

    def __call__(self, x: Float[Array, "h w channels_in"], stride: int = 1) -> Float[Array, "h_out w_out channels_out"]:
        """Convolve with one pixel of zero padding, and normalise."""
        gain = self.scale * jax.lax.rsqrt(self.variance + FLOOR)
        image = jax.lax.conv_general_dilated(
            x[None],
            self.weight * gain[None, None, None],
            (stride, stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )[0]
        return image + (self.shift - self.mean * gain)[None, None]


class Block(eqx.Module):
    """`relu(shortcut(x) + conv(relu(conv(x))))`.

    Where there are more channels than before, the image is halved: the shortcut takes every second pixel, and zeros for
    the new channels.

    Source: arXiv:1512.03385, section 4.2 (option A).

    Args:
        channels_in: input channels.
        channels_out: output channels, those of the input or more.
        key: random key.
    """

    first: NormedConv
    second: NormedConv

    def __init__(self, channels_in: int, channels_out: int, *, key: Key[Array, ""]) -> None:
        key_first, key_second = jax.random.split(key)
        self.first = NormedConv(channels_in, channels_out, key=key_first)
        self.second = NormedConv(channels_out, channels_out, key=key_second)

    def __call__(self, x: Float[Array, "h w channels_in"]) -> Float[Array, "h_out w_out channels_out"]:
        """Of one image."""
        more = self.first.weight.shape[3] - x.shape[2]
        stride = 2 if more else 1
        shortcut = jnp.pad(x[::stride, ::stride], ((0, 0), (0, 0), (more // 2, more - more // 2)))
        return jax.nn.relu(shortcut + self.second(jax.nn.relu(self.first(x, stride))))


class ResNet(AbstractClassifier):
    """A convolution, three stages of residual blocks, the mean over the image (the features), and a layer of classes.

    Source: arXiv:1512.03385, section 4.2; 3 blocks a stage are its ResNet-20.

    Args:
        blocks: of each stage.
        widths: channels of each stage.
        classes: number of classes.
        key: random key.
    """

    stem: NormedConv
    blocks: tuple[tuple[Block, ...], ...]  # by stage
    last: Linear
    view: View

    def __init__(
        self,
        blocks: tuple[int, ...] = (3, 3, 3),
        widths: tuple[int, ...] = (16, 32, 64),
        classes: int = 10,
        *,
        key: Key[Array, ""],
    ) -> None:
        key_stem, key_last, key_blocks = jax.random.split(key, 3)
        self.stem = NormedConv(3, widths[0], key=key_stem)
        self.last = Linear(widths[-1], classes, key=key_last)
        self.view = View(32, MEAN, STD)
        stages, before = [], widths[0]
        for count, width, key_stage in zip(blocks, widths, jax.random.split(key_blocks, len(widths)), strict=True):
            inputs = [before] + [width] * (count - 1)
            keys = jax.random.split(key_stage, count)
            stages.append(tuple(Block(one, width, key=key) for one, key in zip(inputs, keys, strict=True)))
            before = width
        self.blocks = tuple(stages)

    def features(self, x: Float[Array, "h w c"]) -> Float[Array, " width"]:
        """Means over the image, 64 numbers of at least 0."""
        image = jax.nn.relu(self.stem(self.view(x)))
        for stage in self.blocks:
            for block in stage:
                image = block(image)
        return image.mean((0, 1))

    def logits(self, features: Float[Array, " width"]) -> Float[Array, " classes"]:
        """Of CIFAR-10's ten classes."""
        return self.last(features)
