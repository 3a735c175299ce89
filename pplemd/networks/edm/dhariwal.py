"""DhariwalUNet: the ADM network of EDM's ImageNet checkpoints."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from pplemd.conditions import NO_CLASS, dropped
from pplemd.networks.base import AbstractClassNetwork, Label, check_input, options_of
from pplemd.networks.edm.blocks import ADM_STYLE
from pplemd.networks.edm.noise import PositionalNoise, check_features, waves
from pplemd.networks.edm.options import Side, UNetOptions
from pplemd.networks.edm.trunk import Trunk, augmented
from pplemd.networks.embeddings import ClassEmbedding, class_vector
from pplemd.networks.layers import Linear, branch_keys, scaled_normal
from pplemd.networks.network_precision import AbstractWide

NOISE = PositionalNoise(endpoint=False)


class DhariwalConditioning(AbstractWide):
    """The vector that tells every block of a DhariwalUNet the noise level, the class and the augmentation.

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
            time: what it is told of the noise level.
            label: class index; None or -1 for no label.
            key: randomness of dropout while training.
            augment: tells of the augmentation that was applied to the image; None for none.
        """
        check_input("DhariwalUNet", x.shape, self.shape)
        key_label, key_blocks = branch_keys(key, 2)
        condition = self.conditioning(time, dropped(label, NO_CLASS, self.label_dropout, key_label), augment)
        return self.trunk(x, condition, key_blocks)
