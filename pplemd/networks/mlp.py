"""A multilayer perceptron as a generator: latent in, sample out, no noise level."""

import math

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from pplemd.networks.base import Label, check_input, check_shape, check_sizes
from pplemd.networks.embeddings import ClassEmbedding, class_vector
from pplemd.networks.layers import Linear

SILU_GAIN = 1.676  # 1 / sqrt(E[silu(n)^2]), n ~ N(0, 1): keeps unit mean square from layer to layer


class MLP(eqx.Module):
    """`x = W_depth a(... a(W_0 z + b_0 + class vector))` with a = SiLU scaled to keep unit variance at the start.

    Args:
        in_shape: shape of the latent z.
        out_shape: shape of the sample.
        width: hidden features.
        depth: number of hidden layers, 1 or more.
        classes: number of labels, None for none.
        key: random key.

    Raises:
        RecipeError: a size below 1.
    """

    in_shape: tuple[int, ...] = eqx.field(static=True)
    out_shape: tuple[int, ...] = eqx.field(static=True)
    classes: int | None = eqx.field(static=True)
    layers: tuple[Linear, ...]
    label: ClassEmbedding | None

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        width: int = 192,
        depth: int = 4,
        *,
        classes: int | None = None,
        key: Key[Array, ""],
    ) -> None:
        check_shape("MLP", "in_shape", in_shape)
        check_shape("MLP", "out_shape", out_shape)
        check_sizes("MLP", {"width": width, "depth": depth, "classes": classes})
        key_label, *keys = jax.random.split(key, depth + 2)
        sizes = [math.prod(in_shape), *[width] * depth, math.prod(out_shape)]
        self.in_shape, self.out_shape, self.classes = in_shape, out_shape, classes
        self.layers = tuple(
            Linear(size_in, size_out, key=key_layer)
            for size_in, size_out, key_layer in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        self.label = None if classes is None else ClassEmbedding(classes, width, key=key_label)

    def __call__(self, z: Float[Array, "..."], label: Label = None) -> Float[Array, "..."]:
        """Generate one sample.

        Args:
            z: latent of shape in_shape.
            label: class index in [0, classes); None or -1 for no label.

        Returns:
            The sample, of shape out_shape and z's dtype.

        Raises:
            RecipeError: z is not of shape in_shape, or a label is given to an MLP without classes.
        """
        check_input("MLP", z.shape, self.in_shape)
        first, *rest = self.layers
        hidden = first(z.reshape(-1))
        vector = class_vector(self.label, label, "MLP")
        if vector is not None:
            hidden = hidden + vector.astype(hidden.dtype)
        for layer in rest:
            hidden = layer(jax.nn.silu(hidden) * SILU_GAIN)
        return hidden.reshape(self.out_shape)
