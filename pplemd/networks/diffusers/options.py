"""Sizes and kinds of a UNet2DModel."""

from collections.abc import Callable
from enum import Enum

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array

from pplemd.errors import RecipeError
from pplemd.networks.base import check_dropout, check_shape, check_sizes
from pplemd.networks.edm.options import FourierNoise


def mish(x: Array) -> Array:
    """`x tanh(softplus(x))`. Source: arXiv:1908.08681, equation 1."""
    return x * jnp.tanh(jax.nn.softplus(x))


def gelu(x: Array) -> Array:
    """GELU, exact. Source: arXiv:1606.08415, equation 2."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "mish": mish,
    "gelu": gelu,
    "relu": jax.nn.relu,
}


IMAGE = 3  # channels of the images that levels with a skip are written for


class TimeKind(Enum):
    """How the network gets its noise level."""

    POSITIONAL = "positional"  # waves of the time step
    FOURIER = "fourier"  # random waves of log(sigma); the output is divided by sigma
    LEARNED = "learned"  # a trained vector a time step


class LevelKind(eqx.Module):
    """What one level of the network does at its size, on the way in or out.

    Attributes:
        attend: whether its blocks are followed by attention; on the way out of a level with a skip only the last one.
        resize: whether a residual block changes the image's size, or a convolution does.
        skip: whether the image itself, resampled, takes part: added to the features on the way in, built up on the way
            out (NCSN++). Such levels sum over sqrt(2) and filter by (1, 3, 3, 1).
    """

    attend: bool = eqx.field(static=True, default=False)
    resize: bool = eqx.field(static=True, default=False)
    skip: bool = eqx.field(static=True, default=False)


class UNet2DOptions(eqx.Module):
    """Sizes and kinds of a UNet2DModel, and how it is computed.

    Attributes:
        shape: (h, w, c) of one image, h and w divisible by 2^(levels - 1).
        channels: of each level, finest first.
        down: kind of each level on the way in, finest first.
        up: kind of each level on the way out, coarsest first.
        blocks: residual blocks a level on the way in; one more on the way out.
        middle: whether there is a middle between the way in and the way out: two blocks.
        middle_attend: whether attention stands between them.
        middle_scale: what every sum in the middle is divided by.
        head: features of an attention head; None for one head.
        groups: that norms take channels in; None for min(32, channels // 4).
        middle_groups: that the norm of the middle's attention takes; None for `groups`, and for no norm at all where
            blocks are modulated.
        floor: of the variance, in norms.
        modulated: whether the conditioning vector scales and shifts after a block's second norm (scale_shift), or is
            added before it (default).
        activation: of blocks: silu, mish, gelu or relu.
        time: how it gets the noise level.
        time_shift: lowers the number of waves that frequencies are spaced by (freq_shift); positional alone.
        time_flip: cosines before sines (flip_sin_to_cos); positional alone.
        frequencies: of random waves; Fourier alone.
        times: number of time steps, the rows of a learned table; None without one.
        width: features of the conditioning vector; None for 4 times those of the first level.
        classes: number of labels, None for none.
        classes_as_times: whether a class is given in the way of a time step (class_embed_type "timestep").
        padded_evenly: whether convolutions that halve pad each side by a pixel, or the far sides alone
            (downsample_padding 1 and 0).
        centred: whether the input is taken from [0, 1] to [-1, 1] first (center_input_sample).
        out_channels: channels that the last convolution computes, None for the image's; those beyond the image's, a
            learnt variance, are cut off.
        dropout: probability that a feature is dropped while training.
        compute: type of the products and the features, such as jnp.bfloat16; None for the input's. Parameters stay in
            32 bits; so do the moments of norms, attention's softmax and the conditioning vector.
        rematerialise: compute each block again for its gradient, instead of keeping what it computed.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True)
    down: tuple[LevelKind, ...]
    up: tuple[LevelKind, ...]
    blocks: int = eqx.field(static=True, default=2)
    middle: bool = eqx.field(static=True, default=True)
    middle_attend: bool = eqx.field(static=True, default=True)
    middle_scale: float = eqx.field(static=True, default=1.0)
    head: int | None = eqx.field(static=True, default=8)
    groups: int | None = eqx.field(static=True, default=32)
    middle_groups: int | None = eqx.field(static=True, default=None)
    floor: float = eqx.field(static=True, default=1e-5)
    modulated: bool = eqx.field(static=True, default=False)
    activation: str = eqx.field(static=True, default="silu")
    time: TimeKind = eqx.field(static=True, default=TimeKind.POSITIONAL)
    time_shift: float = eqx.field(static=True, default=0.0)
    time_flip: bool = eqx.field(static=True, default=True)
    frequencies: FourierNoise = FourierNoise()
    times: int | None = eqx.field(static=True, default=None)
    width: int | None = eqx.field(static=True, default=None)
    classes: int | None = eqx.field(static=True, default=None)
    classes_as_times: bool = eqx.field(static=True, default=False)
    padded_evenly: bool = eqx.field(static=True, default=True)
    centred: bool = eqx.field(static=True, default=False)
    out_channels: int | None = eqx.field(static=True, default=None)
    dropout: float = eqx.field(static=True, default=0.0)
    compute: DTypeLike | None = eqx.field(static=True, default=None)
    rematerialise: bool = eqx.field(static=True, default=False)

    @property
    def features(self) -> int:
        """Of the conditioning vector."""
        return self.width or 4 * self.channels[0]

    @property
    def computed(self) -> int:
        """Channels of the last convolution."""
        return self.out_channels or self.shape[2]

    def check(self) -> None:
        """Raise RecipeError unless a network of these sizes can be built.

        Raises:
            RecipeError: a size below 1, kinds that are not one a level, a shape that does not halve, a dropout outside
                [0, 1), a time that its features do not fit, or a compute type that is none.
        """
        owner = "UNet2DModel"
        check_shape(owner, "shape", self.shape)
        check_shape(owner, "channels", self.channels)
        names = "blocks", "head", "groups", "middle_groups", "times", "width", "classes", "out_channels"
        check_sizes(owner, {name: getattr(self, name) for name in names})
        check_dropout(owner, self.dropout)
        levels = len(self.channels)
        if len(self.down) != levels or len(self.up) != levels:
            raise RecipeError(
                f"{owner}: {levels} levels of channels, {len(self.down)} kinds of levels on the way in and "
                f"{len(self.up)} on the way out; expected as many of each."
            )
        factor = 2 ** (levels - 1)
        if len(self.shape) != 3 or self.shape[0] % factor or self.shape[1] % factor:
            raise RecipeError(
                f"{owner}: shape is {self.shape} with {levels} levels; expected (h, w, c) with h and w divisible by "
                f"{factor}. Use fewer levels, or pad the images."
            )
        # the image is halved, and doubled again, in levels with a skip alone, so none may be left out on its way
        down, up = [kind.skip for kind in self.down[:-1]], [kind.skip for kind in self.up]
        if down != sorted(down, reverse=True) or up != sorted(up):
            raise RecipeError(
                f"{owner}: skips are {down} on the way in and {up} on the way out; expected them at the first levels "
                "on the way in, and at the last ones on the way out."
            )
        if (any(down) or any(up)) and (self.shape[2], self.computed) != (IMAGE, IMAGE):
            raise RecipeError(
                f"{owner}: levels with a skip are for images of {IMAGE} channels; found {self.shape[2]} in and "
                f"{self.computed} out. Use levels without."
            )
        self._check_kinds(owner)

    def _check_kinds(self, owner: str) -> None:
        if self.computed < self.shape[2]:
            raise RecipeError(
                f"{owner}: out_channels is {self.out_channels} for images of {self.shape[2]} channels; expected as "
                "many or more. Leave it None."
            )
        if self.compute is not None and not jnp.issubdtype(self.compute, jnp.floating):
            raise RecipeError(
                f"{owner}: compute is {self.compute}; expected a floating-point type. Use jnp.bfloat16, or None."
            )
        if self.activation not in ACTIVATIONS:
            raise RecipeError(
                f"{owner}: activation is {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}. Usual is silu."
            )
        if not self.middle_scale > 0 or not self.floor >= 0:
            raise RecipeError(
                f"{owner}: middle_scale is {self.middle_scale} and floor {self.floor}; expected a positive number, and "
                "one of 0 or more. Usual are 1 and 1e-5."
            )
        if self.time is TimeKind.POSITIONAL and (
            self.channels[0] < 4 or self.channels[0] % 2 or not self.time_shift < self.channels[0] // 2
        ):
            raise RecipeError(
                f"{owner}: {self.channels[0]} features tell of the time, shifted by {self.time_shift}; expected an "
                "even number of 4 or more, and a shift below its half. They are the channels of the first level."
            )
        if self.time is TimeKind.LEARNED and self.times is None:
            raise RecipeError(f"{owner}: a learned time needs the number of time steps; expected times=1000, say.")
        if self.classes_as_times and (self.time is not TimeKind.POSITIONAL or self.classes is None):
            raise RecipeError(
                f"{owner}: classes are told as times with time {self.time.value} and classes={self.classes}; expected "
                "a positional time, and a number of classes."
            )
