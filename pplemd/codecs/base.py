"""The contract of a codec, and the one that changes nothing."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class AbstractCodec(eqx.Module):
    """Maps one sample to the space in which a teacher lives, and back; it is never trained here.

    Teacher, generator, score network and chains live in that space. Samples, pictures and figures are decoded.

    Source: arXiv:2112.10752, section 3.1.
    """

    @abstractmethod
    def encode(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """One sample of the data, encoded."""

    @abstractmethod
    def decode(self, encoded: Float[Array, "..."]) -> Float[Array, "..."]:
        """One encoded sample, as the data are."""

    def decoded_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a sample whose encoded shape is given."""
        return jax.eval_shape(self.decode, jax.ShapeDtypeStruct(shape, jnp.float32)).shape

    def encoded_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The encoded shape of a sample."""
        return jax.eval_shape(self.encode, jax.ShapeDtypeStruct(shape, jnp.float32)).shape


class Identity(AbstractCodec):
    """Leaves samples as they are."""

    def encode(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The same."""
        return x

    def decode(self, encoded: Float[Array, "..."]) -> Float[Array, "..."]:
        """The same."""
        return encoded
