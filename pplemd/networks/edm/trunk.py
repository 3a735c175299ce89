"""What SongUNet and DhariwalUNet share: images in, images out, once the conditioning vector is known."""

import itertools

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from pplemd.errors import RecipeError
from pplemd.networks.edm.blocks import Block, BlockStyle
from pplemd.networks.edm.levels import Decoder, Encoder
from pplemd.networks.edm.options import Side, UNetOptions
from pplemd.networks.network_precision import NetworkPrecision


class Trunk(eqx.Module):
    """Encoder and decoder.

    Args:
        options: sizes of the network, and how it is computed.
        style: of its blocks.
        side_in: images of all sizes on the way in.
        side_out: images of all sizes on the way out.
        key: random key.
    """

    encoder: Encoder
    decoder: Decoder
    dropout: float = eqx.field(static=True)
    precision: NetworkPrecision

    def __init__(
        self, options: UNetOptions, style: BlockStyle, side_in: Side, side_out: Side, *, key: Key[Array, ""]
    ) -> None:
        key_in, key_out = jax.random.split(key)
        self.encoder = Encoder(options, style, side_in, key=key_in)
        self.decoder = Decoder(options, style, side_out, key=key_out)
        self.dropout, self.precision = options.dropout, NetworkPrecision(options.compute, options.rematerialise)

    def __call__(
        self, x: Float[Array, "h w c"], condition: Float[Array, " width"], key: Key[Array, ""] | None
    ) -> Float[Array, "h w c"]:
        """Return the image for one image, of its channels and type.

        Args:
            x: one image.
            condition: the conditioning vector, in 32 bits.
            key: randomness of dropout; None for none.
        """
        numbers = itertools.count()

        def run(block: Block, hidden: Array) -> Array:
            key_block = None if key is None else jax.random.fold_in(key, next(numbers))
            return self.precision.block(block)(hidden, vector, key_block, self.dropout)

        hidden = self.precision.entered(x)
        vector = condition.astype(hidden.dtype)
        image = self.decoder(self.encoder(hidden, run), run)
        return image[..., : x.shape[-1]].astype(x.dtype)


def augmented(
    features: Float[Array, " n"], table: Float[Array, "augment n"] | None, augment: Array | None, owner: str
) -> Float[Array, " n"]:
    """Return the features of the noise level plus those of the augmentation, if any is told.

    Args:
        features: of the noise level.
        table: what the augmentation's vector is multiplied by; None in a network that knows none.
        augment: the augmentation's vector, None for none.
        owner: name of the network's class.

    Raises:
        RecipeError: an augmentation for a network that knows none, or of another length.

    Source: arXiv:2206.00364, appendix F.2.
    """
    if augment is None:
        return features
    if table is None or augment.shape != table.shape[:1]:
        known = None if table is None else table.shape[0]
        raise RecipeError(
            f"{owner} was built with augment={known} and got an augmentation of shape {augment.shape}; expected "
            f"{'none' if table is None else table.shape[:1]}. Build it with augment=<length>, or pass None."
        )
    return features + augment @ table
