"""SongUNet (DDPM++, NCSN++) and DhariwalUNet (ADM): the networks of EDM's checkpoints."""

import itertools
import math
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from pplemd.conditions import NO_CLASS, dropped
from pplemd.errors import RecipeError
from pplemd.networks.base import AbstractClassNetwork, AbstractWide, Label, NetworkPrecision, check_input, options_of
from pplemd.networks.edm.layers import ADM_STYLE, Block, BlockStyle, Decoder, Encoder, song_style
from pplemd.networks.edm.options import (
    DDPMPP,
    AbstractNoise,
    PositionalNoise,
    Side,
    SongVariant,
    UNetOptions,
    check_features,
    waves,
)
from pplemd.networks.embeddings import ClassEmbedding, class_vector, one_hot, refuse_label
from pplemd.networks.layers import Linear, branch_keys, scaled_normal


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
    """Return the features of the noise level plus those of the augmentation, if there is one.

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


class SongConditioning(AbstractWide):
    """The vector that gives every block of a SongUNet the noise level, the class and the augmentation.

    `SiLU(W_1 SiLU(W_0 (f(time) + W_c sqrt(classes) onehot(label) + b_c + A augment) + b_0) + b_1)`, f sines before
    cosines.

    Args:
        options: sizes of the network.
        variant: of the family: frequencies, and their number.
        key: random key.

    Source: arXiv:2206.00364, appendix F.2.
    """

    noise: AbstractNoise
    label: Linear | None
    augment: Float[Array, "augment features"] | None
    first: Linear
    last: Linear

    def __init__(self, options: UNetOptions, variant: SongVariant, *, key: Key[Array, ""]) -> None:
        features = options.channels * variant.noise_multiplier
        check_features("SongUNet", features)
        key_label, key_augment, key_first, key_last = jax.random.split(key, 4)
        count = options.augment
        self.noise = variant.noise
        self.label = None if options.classes is None else Linear(options.classes, features, key=key_label)
        self.augment = None if count is None else scaled_normal(key_augment, (count, features), count)
        self.first = Linear(features, options.width, key=key_first)
        self.last = Linear(options.width, options.width, key=key_last)

    def __call__(
        self, time: Float[Array, ""] | float, label: Label, augment: Float[Array, " augment"] | None
    ) -> Float[Array, " width"]:
        """Return the vector of one sample, in at least 32 bits."""
        features = waves(self.noise, time, self.first.weight.shape[0] // 2)[::-1].reshape(-1)
        if self.label is None:
            refuse_label(label, "SongUNet")
        else:
            classes = self.label.weight.shape[0]
            features = features + self.label(math.sqrt(classes) * one_hot(label, classes, features.dtype))
        features = augmented(features, self.augment, augment, "SongUNet")
        return jax.nn.silu(self.last(jax.nn.silu(self.first(features))))


class SongUNet(AbstractClassNetwork):
    """The U-Net of EDM's CIFAR-10, FFHQ and AFHQ checkpoints: DDPM++ or NCSN++, by its variant.

    Departs: parameters start as those of pplemd's other networks do, and the last convolutions at 0.

    Args:
        options: sizes of the network, and how it is computed; or the shape of one image.
        variant: of the family; DDPMPP by default.
        key: random key.
        sizes: fields of UNetOptions by name, beside a shape: `SongUNet((32, 32, 3), channels=64, key=key)`.

    Raises:
        RecipeError: options of which no network can be built.

    Source: arXiv:2011.13456, section 4.4 and appendix H; arXiv:2206.00364, appendix F.2, table 7.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True)
    label_dropout: float = eqx.field(static=True)
    conditioning: SongConditioning
    trunk: Trunk

    def __init__(
        self,
        options: UNetOptions | tuple[int, ...],
        variant: SongVariant = DDPMPP,
        *,
        key: Key[Array, ""],
        **sizes: Any,
    ) -> None:
        options = options_of("SongUNet", UNetOptions, options, sizes)
        options.check("SongUNet")
        if not isinstance(variant, SongVariant):
            raise RecipeError(f"SongUNet: variant is {variant!r}; expected DDPMPP, NCSNPP or a SongVariant.")
        variant.check("SongUNet")
        key_condition, key_trunk = jax.random.split(key)
        self.shape, self.classes, self.label_dropout = options.shape, options.classes, options.label_dropout
        self.conditioning = SongConditioning(options, variant, key=key_condition)
        self.trunk = Trunk(options, song_style(variant.taps), variant.encoder, variant.decoder, key=key_trunk)

    def __call__(
        self,
        x: Float[Array, "*shape"],
        time: Float[Array, ""] | float,
        label: Label = None,
        key: Key[Array, ""] | None = None,
        augment: Float[Array, " augment"] | None = None,
    ) -> Float[Array, "*shape"]:
        """Return the raw prediction for one image; see AbstractClassNetwork.

        Args:
            x: the network's input.
            time: what it gets of the noise level.
            label: class index; None or -1 for no label.
            key: randomness of dropout while training.
            augment: features of the augmentation that was applied to the image; None for none.
        """
        check_input("SongUNet", x.shape, self.shape)
        key_label, key_blocks = branch_keys(key, 2)
        condition = self.conditioning(time, dropped(label, NO_CLASS, self.label_dropout, key_label), augment)
        return self.trunk(x, condition, key_blocks)


NOISE = PositionalNoise(endpoint=False)


class DhariwalConditioning(AbstractWide):
    """The vector that gives every block of a DhariwalUNet the noise level, the class and the augmentation.

    `SiLU(W_1 SiLU(W_0 (f(time) + A augment) + b_0) + b_1 + class vector)`, f cosines before sines.

    Args:
        options: sizes of the network.
        key: random key.

    Source: arXiv:2105.05233, section 3; arXiv:2206.00364, appendix F.2.
    """

    label: ClassEmbedding | None
    augment: Float[Array, "augment features"] | None
    first: Linear
    last: Linear

    def __init__(self, options: UNetOptions, *, key: Key[Array, ""]) -> None:
        check_features("DhariwalUNet", options.channels)
        key_label, key_augment, key_first, key_last = jax.random.split(key, 4)
        classes, count, features, width = options.classes, options.augment, options.channels, options.width
        self.label = None if classes is None else ClassEmbedding(classes, width, key=key_label)
        self.augment = None if count is None else scaled_normal(key_augment, (count, features), count)
        self.first = Linear(features, width, key=key_first)
        self.last = Linear(width, width, key=key_last)

    def __call__(
        self, time: Float[Array, ""] | float, label: Label, augment: Float[Array, " augment"] | None
    ) -> Float[Array, " width"]:
        """Return the vector of one sample, in at least 32 bits."""
        features = waves(NOISE, time, self.first.weight.shape[0] // 2).reshape(-1)
        features = augmented(features, self.augment, augment, "DhariwalUNet")
        hidden = self.last(jax.nn.silu(self.first(features)))
        vector = class_vector(self.label, label, "DhariwalUNet")
        return jax.nn.silu(hidden if vector is None else hidden + vector.astype(hidden.dtype))


class DhariwalUNet(AbstractClassNetwork):
    """The U-Net of EDM's ImageNet checkpoints: ADM, with attention heads of 64 features.

    EDM's ImageNet-64 network is `UNetOptions((64, 64, 3), 192, (1, 2, 3, 4), blocks=3, attention=(32, 16, 8),
    classes=1000)`.

    Departs: parameters start as those of pplemd's other networks do, and the last convolution at 0.

    Args:
        options: sizes of the network, and how it is computed; or the shape of one image.
        key: random key.
        sizes: fields of UNetOptions by name, beside a shape.

    Raises:
        RecipeError: options of which no network can be built.

    Source: arXiv:2105.05233, section 3; arXiv:2206.00364, appendix F.2, table 7.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True)
    label_dropout: float = eqx.field(static=True)
    conditioning: DhariwalConditioning
    trunk: Trunk

    def __init__(self, options: UNetOptions | tuple[int, ...], *, key: Key[Array, ""], **sizes: Any) -> None:
        options = options_of("DhariwalUNet", UNetOptions, options, sizes)
        options.check("DhariwalUNet")
        key_condition, key_trunk = jax.random.split(key)
        self.shape, self.classes, self.label_dropout = options.shape, options.classes, options.label_dropout
        self.conditioning = DhariwalConditioning(options, key=key_condition)
        self.trunk = Trunk(options, ADM_STYLE, Side.STANDARD, Side.STANDARD, key=key_trunk)

    def __call__(
        self,
        x: Float[Array, "*shape"],
        time: Float[Array, ""] | float,
        label: Label = None,
        key: Key[Array, ""] | None = None,
        augment: Float[Array, " augment"] | None = None,
    ) -> Float[Array, "*shape"]:
        """Return the raw prediction for one image; see AbstractClassNetwork.

        Args:
            x: the network's input.
            time: what it gets of the noise level.
            label: class index; None or -1 for no label.
            key: randomness of dropout while training.
            augment: features of the augmentation that was applied to the image; None for none.
        """
        check_input("DhariwalUNet", x.shape, self.shape)
        key_label, key_blocks = branch_keys(key, 2)
        condition = self.conditioning(time, dropped(label, NO_CLASS, self.label_dropout, key_label), augment)
        return self.trunk(x, condition, key_blocks)
