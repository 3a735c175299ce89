"""LeNet-5, the classifier of handwritten digits."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.networks.classifiers.base import AbstractClassifier, View
from pplemd.networks.layers import Conv, Linear

SIDE = 32  # pixels: two 5 x 5 convolutions without padding, each halved, leave 5 x 5


class LeNet(AbstractClassifier):
    """Two convolutions of 5 x 5 with pooling, then three dense layers; the features are those before the classes.

    Source: LeCun et al., Proceedings of the IEEE 86 (1998), section II.B.
    Departs: every feature of the second convolution sees all of the first, pooling takes the largest, and the classes
        are a linear layer: the network of abdulfatir/gan-metrics-pytorch, whose weights it takes.

    Args:
        channels: of the convolutions, and the widths of the dense layers: c1, c3, c5, f6, classes.
        key: random key.
    """

    first: Conv
    second: Conv
    third: Linear
    fourth: Linear
    last: Linear
    view: View

    def __init__(self, sizes: tuple[int, int, int, int, int] = (6, 16, 120, 84, 10), *, key: Key[Array, ""]) -> None:
        c1, c3, c5, f6, classes = sizes
        keys = jax.random.split(key, 5)
        self.first = Conv(1, c1, 5, key=keys[0])
        self.second = Conv(c1, c3, 5, key=keys[1])
        self.third = Linear(25 * c3, c5, key=keys[2])
        self.fourth = Linear(c5, f6, key=keys[3])
        self.last = Linear(f6, classes, key=keys[4])
        self.view = View(SIDE, (0.0,), (1.0,))

    def features(self, x: Float[Array, "h w c"]) -> Float[Array, " width"]:
        """Tanh of the last hidden layer, 84 numbers in (-1, 1)."""
        image = self.view(x)
        for conv in (self.first, self.second):
            image = halved(jnp.tanh(conv(image)[2:-2, 2:-2]))
        hidden = jnp.tanh(self.third(image.reshape(-1)))
        return jnp.tanh(self.fourth(hidden))

    def logits(self, features: Float[Array, " width"]) -> Float[Array, " classes"]:
        """Of the ten digits."""
        return self.last(features)


def halved(image: Float[Array, "h w c"]) -> Float[Array, "half_h half_w c"]:
    """The largest of each 2 x 2 pixels."""
    height, width, channels = image.shape
    return image.reshape(height // 2, 2, width // 2, 2, channels).max((1, 3))
