"""What the networks of EDM's checkpoints make of the noise level: waves whose frequencies are constants."""

import math
from abc import abstractmethod
from statistics import NormalDist

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from pplemd.errors import RecipeError
from pplemd.networks.layers import widened

SLOWEST = 1e-4  # lowest angular frequency, the highest being 1: arXiv:1706.03762, section 3.5
SPREAD = 16.0  # s.d. of random frequencies, in periods for a unit of time: arXiv:2011.13456, appendix C.1


class AbstractNoise(eqx.Module):
    """Angular frequencies of the waves that tell a network its noise level."""

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
        time: what the network is told of the noise level.
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
