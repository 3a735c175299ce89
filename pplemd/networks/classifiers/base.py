"""The contract of a classifier of images, and the image as it was trained to see it."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pplemd.errors import DataError
from pplemd.networks.layers import widened


class AbstractClassifier(eqx.Module):
    """A trained classifier of one image, in two parts: features of the image, and classes of the features."""

    @abstractmethod
    def features(self, x: Float[Array, "h w c"]) -> Float[Array, " width"]:
        """The features of one image in [-1, 1], of any height and width.

        Raises:
            DataError: another number of channels than it was trained on.
        """

    @abstractmethod
    def logits(self, features: Float[Array, " width"]) -> Float[Array, " classes"]:
        """Log probabilities of the classes, up to a constant, given the features."""


class View(eqx.Module):
    """An image as a classifier was trained to see it: `(resize((x + 1) / 2) - mean) / std`, channel by channel.

    Sizes are changed by bilinear interpolation between the centres of pixels, smoothed first where the image shrinks.

    Attributes:
        side: height and width, in pixels.
        mean: of each channel, in units of images in [0, 1].
        std: of each channel, in the same units.
    """

    side: int = eqx.field(static=True)
    mean: tuple[float, ...] = eqx.field(static=True)
    std: tuple[float, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "side side c"]:
        """The image as it is seen, in 32 bits or more."""
        channels = len(self.mean)
        if x.shape[2] != channels:
            raise DataError(
                f"found images of shape {x.shape}, expected {channels} channel{'s' * (channels > 1)}, those of the "
                "images that the classifier was trained on: give features of another network"
            )
        unit = jax.image.resize((widened(x) + 1) / 2, (self.side, self.side, channels), "bilinear")
        mean, std = (jnp.asarray(ends, unit.dtype)[None, None] for ends in (self.mean, self.std))
        return (unit - mean) / std
