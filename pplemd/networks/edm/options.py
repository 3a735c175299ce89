"""What may be chosen about the networks of EDM's checkpoints, and what they make of the noise level."""

import math
from abc import abstractmethod
from enum import Enum
from statistics import NormalDist

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from pplemd.errors import RecipeError
from pplemd.networks.base import check_dropout, check_heights, check_shape, check_sizes
from pplemd.networks.layers import Taps, check_taps, widened

SLOWEST = 1e-4  # lowest angular frequency, the highest being 1: arXiv:1706.03762, section 3.5
SPREAD = 16.0  # s.d. of random frequencies, in periods for a unit of time: arXiv:2011.13456, appendix C.1


class AbstractNoise(eqx.Module):
    """Angular frequencies of the waves that give a network its noise level."""

    @abstractmethod
    def rates(self, count: int) -> Float[np.ndarray, " {count}"]:
        """Frequencies of `count` waves, in radians for a unit of time, 32 bits.

        Raises:
            RecipeError: there is another number of them.
        """


class PositionalNoise(AbstractNoise):
    """Frequencies geometric from 1 to 1 / 10,000.

    Attributes:
        endpoint: whether the last one is 1 / 10,000 (DDPM++), or the one after the last would be (ADM).

    Source: arXiv:1706.03762, section 3.5.
    """

    endpoint: bool = eqx.field(static=True, default=True)

    def rates(self, count: int) -> Float[np.ndarray, " {count}"]:
        """See AbstractNoise."""
        steps = np.arange(count, dtype=np.float32) / np.float32(count - self.endpoint)
        return np.float32(SLOWEST) ** steps


class FourierNoise(AbstractNoise):
    """Random frequencies, drawn once and then constant.

    Departs: without frequencies of a checkpoint they are quantiles of |N(0, 16^2)| instead of draws of N(0, 16^2),
    which are as good up to their signs, and those of a wave and its negative say the same.

    Attributes:
        frequencies: in periods for a unit of time, one for each wave; None for the quantiles.

    Source: arXiv:2006.10739, section 4; arXiv:2011.13456, appendix C.1.
    """

    frequencies: tuple[float, ...] | None = eqx.field(static=True, default=None)

    def rates(self, count: int) -> Float[np.ndarray, " {count}"]:
        """See AbstractNoise."""
        if self.frequencies is None:
            law = NormalDist(0.0, SPREAD)
            periods = np.array([law.inv_cdf(0.5 + 0.5 * (i + 0.5) / count) for i in range(count)])
        else:
            periods = np.array(self.frequencies)
        if len(periods) != count:
            raise RecipeError(
                f"FourierNoise has {len(periods)} frequencies; expected {count}, half the features of the noise "
                "level. Leave them None, or take those of the checkpoint."
            )
        return (2 * math.pi * periods).astype(np.float32)


def waves(noise: AbstractNoise, time: Float[Array, ""] | float, count: int) -> Float[Array, "2 {count}"]:
    """Cosines, then sines, of a time, in at least 32 bits.

    Args:
        noise: the frequencies.
        time: what the network gets of the noise level.
        count: number of frequencies.
    """
    time = widened(jnp.asarray(time))
    angles = time * jnp.asarray(noise.rates(count), time.dtype)
    return jnp.stack([jnp.cos(angles), jnp.sin(angles)])


def check_features(owner: str, features: int) -> None:
    """Raise RecipeError unless features of the noise level come in pairs of a cosine and a sine.

    Raises:
        RecipeError: an odd number of them, or fewer than four.
    """
    if features < 4 or features % 2:
        raise RecipeError(
            f"{owner}: {features} features tell of the noise level; expected an even number of 4 or more. "
            "They are the channels, times noise_multiplier in a SongUNet."
        )


class UNetOptions(eqx.Module):
    """Sizes of a SongUNet or DhariwalUNet, and how it is computed.

    Attributes:
        shape: (h, w, c) of one image, h and w divisible by 2^(levels - 1).
        channels: channels that the multipliers multiply.
        multipliers: channels of each level, finest first, in units of `channels`.
        embedding_multiplier: features of the vector that conditions every block, in units of `channels`.
        blocks: residual blocks a level on the way down; one more on the way up.
        attention: image heights, in pixels, at which blocks attend; heights that no level has are of no effect.
        classes: number of labels, None for none.
        augment: length of the vector of an augmentation, None for none.
        dropout: probability that a feature is dropped while training.
        label_dropout: probability that a label is dropped while training, for guidance without a classifier.
        out_channels: channels that the last convolution computes, None for the image's; those beyond the image's, a
            learnt variance, are cut off.
        compute: type of the products and the features, such as jnp.bfloat16; None for the input's. Parameters stay in
            32 bits; so do the moments of norms, attention's softmax and the conditioning vector.
        rematerialise: compute each block again for its gradient, instead of keeping what it computed.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    channels: int = eqx.field(static=True, default=128)
    multipliers: tuple[int, ...] = eqx.field(static=True, default=(1, 2, 2, 2))
    embedding_multiplier: int = eqx.field(static=True, default=4)
    blocks: int = eqx.field(static=True, default=4)
    attention: tuple[int, ...] = eqx.field(static=True, default=(16,))
    classes: int | None = eqx.field(static=True, default=None)
    augment: int | None = eqx.field(static=True, default=None)
    dropout: float = eqx.field(static=True, default=0.1)
    label_dropout: float = eqx.field(static=True, default=0.0)
    out_channels: int | None = eqx.field(static=True, default=None)
    compute: DTypeLike | None = eqx.field(static=True, default=None)
    rematerialise: bool = eqx.field(static=True, default=False)

    @property
    def levels(self) -> list[tuple[int, bool]]:
        """(channels, whether blocks attend) of each level, finest first."""
        return [
            (self.channels * multiplier, self.shape[0] // 2**i in self.attention)
            for i, multiplier in enumerate(self.multipliers)
        ]

    @property
    def width(self) -> int:
        """Features of the conditioning vector."""
        return self.channels * self.embedding_multiplier

    @property
    def computed(self) -> int:
        """Channels of the last convolution."""
        return self.out_channels or self.shape[2]

    def check(self, owner: str) -> None:
        """Raise RecipeError unless a network of these sizes can be built.

        Args:
            owner: name of the network's class.

        Raises:
            RecipeError: a size below 1, a dropout outside [0, 1), a shape that does not halve, fewer output channels
                than the image has, or a compute type that is none.
        """
        check_shape(owner, "shape", self.shape)
        check_shape(owner, "multipliers", self.multipliers)
        names = "channels", "embedding_multiplier", "blocks", "classes", "augment", "out_channels"
        check_sizes(owner, {name: getattr(self, name) for name in names})
        check_heights(owner, self.attention)
        check_dropout(owner, self.dropout)
        check_dropout(owner, self.label_dropout)
        factor = 2 ** (len(self.multipliers) - 1)
        if len(self.shape) != 3 or self.shape[0] % factor or self.shape[1] % factor:
            raise RecipeError(
                f"{owner}: shape is {self.shape} with {len(self.multipliers)} levels; expected (h, w, c) with h and w "
                f"divisible by {factor}. Use fewer multipliers, or pad the images."
            )
        if self.computed < self.shape[2]:
            raise RecipeError(
                f"{owner}: out_channels is {self.out_channels} for images of {self.shape[2]} channels; expected as "
                "many or more. Leave it None."
            )
        if self.compute is not None and not jnp.issubdtype(self.compute, jnp.floating):
            raise RecipeError(
                f"{owner}: compute is {self.compute}; expected a floating-point type. Use jnp.bfloat16, or None."
            )


class Side(Enum):
    """Whether images of all sizes take part in one half of a SongUNet, beside its features."""

    STANDARD = "standard"  # only the full size
    SKIP = "skip"  # the image itself, resampled, is added to the features (in), or each level adds to it (out)
    RESIDUAL = "residual"  # going in: the image's features, resampled and convolved at each level, are added


class SongVariant(eqx.Module):
    """What tells the members of the SongUNet family apart.

    Attributes:
        noise: frequencies of the noise level.
        noise_multiplier: features of it, in units of the options' `channels`.
        encoder: images of all sizes on the way in.
        decoder: images of all sizes on the way out: STANDARD or SKIP.
        taps: filter that halves and doubles images.

    Source: arXiv:2011.13456, section 4.4 and appendix H; arXiv:2206.00364, appendix F.2, table 7.
    """

    noise: AbstractNoise = PositionalNoise()
    noise_multiplier: int = eqx.field(static=True, default=1)
    encoder: Side = eqx.field(static=True, default=Side.STANDARD)
    decoder: Side = eqx.field(static=True, default=Side.STANDARD)
    taps: Taps = eqx.field(static=True, default=(1, 1))

    def check(self, owner: str) -> None:
        """Raise RecipeError unless such a network can be built.

        Args:
            owner: name of the network's class.

        Raises:
            RecipeError: a size below 1, a filter that shifts images, or a residual decoder.
        """
        check_sizes(owner, {"noise_multiplier": self.noise_multiplier})
        check_taps(owner, self.taps)
        if self.decoder is Side.RESIDUAL:
            raise RecipeError(f"{owner}: decoder is RESIDUAL; expected STANDARD or SKIP. Only the encoder has it.")


DDPMPP = SongVariant()
NCSNPP = SongVariant(FourierNoise(), 2, Side.RESIDUAL, Side.STANDARD, (1, 3, 3, 1))
