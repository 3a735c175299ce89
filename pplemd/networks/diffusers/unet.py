"""UNet2DModel: the U-Net of diffusers' pipelines of images without text."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from pplemd.networks.base import AbstractClassNetwork, Label, NetworkPrecision, check_input, options_of
from pplemd.networks.diffusers.conditioning import UNet2DConditioning
from pplemd.networks.diffusers.layers import Decoder, Encoder, Stage
from pplemd.networks.diffusers.options import TimeKind, UNet2DOptions
from pplemd.networks.layers import widened


class UNet2DModel(AbstractClassNetwork):
    """The U-Net of diffusers' DDPM, DDIM and score-SDE pipelines.

    Its time is a time step, which may be fractional, or with Fourier features sigma itself, by which its output is
    divided. DDPM's network for CIFAR-10 is `UNet2DOptions((32, 32, 3), (128, 256, 256, 256), down, up, head=None,
    floor=1e-6, time_shift=1.0, time_flip=False, padded_evenly=False)` with attention at the second finest level.

    Departs: parameters start as those of pplemd's other networks do, and the last convolutions at 0.

    Args:
        options: sizes and kinds of the network, and how it is computed; or the shape of one image.
        key: random key.
        sizes: fields of UNet2DOptions by name, beside a shape.

    Raises:
        RecipeError: options of which no network can be built.

    Source: arXiv:2006.11239, appendix B; arXiv:2011.13456, appendix H (levels with a skip).
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True)
    conditioning: UNet2DConditioning
    encoder: Encoder
    decoder: Decoder
    dropout: float = eqx.field(static=True)
    centred: bool = eqx.field(static=True)
    divided: bool = eqx.field(static=True)  # the output, by the time
    precision: NetworkPrecision

    def __init__(self, options: UNet2DOptions | tuple[int, ...], *, key: Key[Array, ""], **sizes: Any) -> None:
        options = options_of("UNet2DModel", UNet2DOptions, options, sizes)
        options.check()
        key_condition, key_in, key_out = jax.random.split(key, 3)
        self.shape, self.classes = options.shape, options.classes
        self.conditioning = UNet2DConditioning(options, key=key_condition)
        self.encoder = Encoder(options, key=key_in)
        self.decoder = Decoder(options, key=key_out)
        self.dropout, self.centred = options.dropout, options.centred
        self.divided = options.time is TimeKind.FOURIER
        self.precision = NetworkPrecision(options.compute, options.rematerialise)

    def __call__(
        self,
        x: Float[Array, "*shape"],
        time: Float[Array, ""] | float,
        label: Label = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "*shape"]:
        """Return the raw prediction for one image; see AbstractClassNetwork.

        Args:
            x: the network's input.
            time: the time step, 0 for the least noise; with Fourier features sigma, positive.
            label: class index; None or -1 for no label.
            key: randomness of dropout while training.
        """
        check_input("UNet2DModel", x.shape, self.shape)
        condition, numbers = self.conditioning(time, label), itertools.count()

        def run(stage: Stage, hidden: Array) -> Array:
            key_stage = None if key is None else jax.random.fold_in(key, next(numbers))
            return self.precision.block(stage)(hidden, vector, key_stage, self.dropout)

        hidden = self.precision.entered(x)
        vector = condition.astype(hidden.dtype)
        hidden = 2 * hidden - 1 if self.centred else hidden
        image = self.decoder(self.encoder(hidden, run), run)[..., : x.shape[-1]]
        if self.divided:
            image = widened(image) / jnp.asarray(time)
        return image.astype(x.dtype)
