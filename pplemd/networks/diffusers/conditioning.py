"""What gives every block of a UNet2DModel the noise level and the class."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from pplemd.networks.base import AbstractWide, Label
from pplemd.networks.diffusers.options import ACTIVATIONS, TimeKind, UNet2DOptions
from pplemd.networks.edm.options import SLOWEST, AbstractNoise, FourierNoise, waves
from pplemd.networks.embeddings import ClassEmbedding, class_vector
from pplemd.networks.layers import Linear, scaled_normal, widened


class StepNoise(AbstractNoise):
    """Frequencies geometric from 1 towards 1 / 10,000, `10000^(-i / (count - shift))`.

    Attributes:
        shift: 0 for ADM's frequencies, which do not reach the last one; 1 for DDPM's, which do.

    Source: arXiv:1706.03762, section 3.5.
    """

    shift: float = eqx.field(static=True, default=0.0)

    def rates(self, count: int) -> Float[np.ndarray, " {count}"]:
        """See AbstractNoise; the logarithm is taken in 32 bits, as the original takes it."""
        steps = np.arange(count, dtype=np.float32)
        return np.exp(np.float32(math.log(SLOWEST)) * steps / np.float32(count - self.shift))


class StepWaves(eqx.Module):
    """Sines and cosines of a time step, a fractional one too.

    Attributes:
        noise: their frequencies.
        count: number of frequencies.
        flip: cosines before sines.
    """

    noise: StepNoise
    count: int = eqx.field(static=True)
    flip: bool = eqx.field(static=True)

    def __call__(self, time: Float[Array, ""]) -> Float[Array, " features"]:
        """Features of a time, in at least 32 bits."""
        found = waves(self.noise, time, self.count)
        return (found if self.flip else found[::-1]).reshape(-1)


class SigmaWaves(eqx.Module):
    """Sines, then cosines, of log(sigma) at random frequencies that are constants.

    Attributes:
        noise: their frequencies.
        count: number of frequencies.

    Source: arXiv:2011.13456, appendix C.1.
    """

    noise: FourierNoise
    count: int = eqx.field(static=True)

    def __call__(self, time: Float[Array, ""]) -> Float[Array, " features"]:
        """Features of a noise level sigma > 0, in at least 32 bits."""
        return waves(self.noise, jnp.log(widened(time)), self.count)[::-1].reshape(-1)


class StepTable(eqx.Module):
    """A trained vector for each time step; of a fractional one, that of the nearest.

    Args:
        times: number of time steps.
        features: length of a vector.
        key: random key.
    """

    rows: Float[Array, "times features"]

    def __init__(self, times: int, features: int, *, key: Key[Array, ""]) -> None:
        self.rows = scaled_normal(key, (times, features), 1)

    def __call__(self, time: Float[Array, ""]) -> Float[Array, " features"]:
        """The nearest step's vector; those beyond the ends are the ends'."""
        nearest = jnp.clip(jnp.round(widened(time)), 0, self.rows.shape[0] - 1).astype(jnp.int32)
        return self.rows[nearest]


class TwoLayers(eqx.Module):
    """`W_2 SiLU(W_1 x + b_1) + b_2`.

    Args:
        features: inputs.
        width: outputs, and features between the layers.
        key: random key.
    """

    first: Linear
    last: Linear

    def __init__(self, features: int, width: int, *, key: Key[Array, ""]) -> None:
        key_first, key_last = jax.random.split(key)
        self.first = Linear(features, width, key=key_first)
        self.last = Linear(width, width, key=key_last)

    def __call__(self, x: Float[Array, " features"]) -> Float[Array, " width"]:
        """Map one vector."""
        return self.last(jax.nn.silu(self.first(x)))


class UNet2DConditioning(AbstractWide):
    """The vector `a(W_2 SiLU(W_1 f(time) + b_1) + b_2 + class vector)`, a the blocks' activation.

    The class vector is a trained one a class, or two layers of the waves of the class's number; it is 0 without label.

    Args:
        options: sizes and kinds of the network.
        key: random key.
    """

    time: StepWaves | SigmaWaves | StepTable
    layers: TwoLayers
    label: ClassEmbedding | TwoLayers | None
    classes: int | None = eqx.field(static=True)
    activation: str = eqx.field(static=True)

    def __init__(self, options: UNet2DOptions, *, key: Key[Array, ""]) -> None:
        key_time, key_layers, key_label = jax.random.split(key, 3)
        self.time, features = _time(options, key=key_time)
        self.layers = TwoLayers(features, options.features, key=key_layers)
        self.classes, self.activation = options.classes, options.activation
        if options.classes is None:
            self.label = None
        elif options.classes_as_times:
            self.label = TwoLayers(features, options.features, key=key_label)
        else:
            self.label = ClassEmbedding(options.classes, options.features, key=key_label)

    def __call__(self, time: Float[Array, ""] | float, label: Label) -> Float[Array, " width"]:
        """Return the vector of one sample, in at least 32 bits.

        Raises:
            RecipeError: a label for a network without classes.
        """
        hidden = self.layers(self.time(jnp.asarray(time)))
        vector = self._class(label)
        hidden = hidden if vector is None else hidden + vector.astype(hidden.dtype)
        return ACTIVATIONS[self.activation](hidden)

    def _class(self, label: Label) -> Float[Array, " width"] | None:
        if not isinstance(self.label, TwoLayers):
            return class_vector(self.label, label, "UNet2DModel")
        if label is None:
            return None
        number = jnp.asarray(label)
        vector = self.label(self.time(number.astype(jnp.float32)))
        return jnp.where((number >= 0) & (number < (self.classes or 0)), vector, jnp.zeros_like(vector))


def _time(options: UNet2DOptions, *, key: Key[Array, ""]) -> tuple[StepWaves | SigmaWaves | StepTable, int]:
    """What is made of the time, and how many features it has."""
    channels = options.channels[0]
    if options.time is TimeKind.LEARNED:
        return StepTable(options.times or 0, channels, key=key), channels
    if options.time is TimeKind.FOURIER:
        return SigmaWaves(options.frequencies, channels), 2 * channels
    return StepWaves(StepNoise(options.time_shift), channels // 2, options.time_flip), channels
