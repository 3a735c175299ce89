"""SongUNet: the DDPM++ and NCSN++ networks of EDM's checkpoints."""

import math
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from pplemd.conditions import NO_CLASS, dropped
from pplemd.errors import RecipeError
from pplemd.networks.base import AbstractClassNetwork, Label, check_input, options_of
from pplemd.networks.edm.blocks import song_style
from pplemd.networks.edm.noise import AbstractNoise, check_features, waves
from pplemd.networks.edm.options import DDPMPP, SongVariant, UNetOptions
from pplemd.networks.edm.trunk import Trunk, augmented
from pplemd.networks.embeddings import one_hot, refuse_label
from pplemd.networks.layers import Linear, branch_keys, scaled_normal
from pplemd.networks.network_precision import AbstractWide


class SongConditioning(AbstractWide):
    """The vector that tells every block of a SongUNet the noise level, the class and the augmentation.

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
            time: what it is told of the noise level.
            label: class index; None or -1 for no label.
            key: randomness of dropout while training.
            augment: tells of the augmentation that was applied to the image; None for none.
        """
        check_input("SongUNet", x.shape, self.shape)
        key_label, key_blocks = branch_keys(key, 2)
        condition = self.conditioning(time, dropped(label, NO_CLASS, self.label_dropout, key_label), augment)
        return self.trunk(x, condition, key_blocks)
