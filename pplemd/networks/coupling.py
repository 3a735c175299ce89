"""A generator that is one to one: coupling layers, so that the density of its samples is known."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from pplemd.errors import RecipeError
from pplemd.networks.base import check_input, check_shape, check_sizes
from pplemd.networks.layers import Linear, zeroed
from pplemd.networks.mlp import SILU_GAIN

LOG_SCALE, LOG_TAIL, SKEW = 0.7, 0.5, 0.5  # bounds of one layer's log scale, of the last one's tail, of both's skew


class Placed(eqx.Module):
    """Where a map takes a point, and how it stretches volume there.

    Attributes:
        x: the value.
        log_det: log of the absolute determinant of the map's Jacobian.
    """

    x: Float[Array, "..."]
    log_det: Float[Array, ""]


class Shape(eqx.Module):
    """A monotone map of each number: y = shift + scale sinh(tail arcsinh(x) + skew) - scale sinh(skew).

    Source: Jones and Pewsey, Biometrika 96 (2009), equation 1; the last term keeps 0 where it is.

    Attributes:
        shift: added.
        log_scale: log of the scale.
        log_tail: log of tail: above 0 heavier tails than x's, below 0 lighter ones.
        skew: above 0 to the right, below 0 to the left.
    """

    shift: Float[Array, " n"]
    log_scale: Float[Array, " n"]
    log_tail: Float[Array, " n"]
    skew: Float[Array, " n"]

    def forward(self, x: Float[Array, " n"]) -> Placed:
        """Y for x."""
        angle = jnp.exp(self.log_tail) * jnp.arcsinh(x) + self.skew
        value = self.shift + jnp.exp(self.log_scale) * (jnp.sinh(angle) - jnp.sinh(self.skew))
        slope = jnp.log(jnp.cosh(angle)) - 0.5 * jnp.log1p(x**2)
        return Placed(value, jnp.sum(slope + self.log_tail + self.log_scale))

    def inverse(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        """X for y."""
        angle = jnp.arcsinh((y - self.shift) * jnp.exp(-self.log_scale) + jnp.sinh(self.skew))
        return jnp.sinh((angle - self.skew) * jnp.exp(-self.log_tail))


class Layer(eqx.Module):
    """One coupling: the first half stays, and a network of it shapes the second half.

    Source: arXiv:1605.08803, equations 7 and 8, with `Shape` in place of an affine map.

    Args:
        kept: numbers in the first half.
        moved: numbers in the second half.
        width: hidden features.
        depth: hidden layers.
        key: random key.
    """

    hidden: tuple[Linear, ...]
    last: Linear  # zero at the start: the layer is the identity

    def __init__(self, kept: int, moved: int, width: int, depth: int, *, key: Key[Array, ""]) -> None:
        key_last, *keys = jax.random.split(key, depth + 1)
        sizes = [kept, *[width] * depth]
        self.hidden = tuple(
            Linear(size_in, size_out, key=key_layer)
            for size_in, size_out, key_layer in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        self.last = zeroed(Linear(width, 3 * moved, key=key_last))

    def shape(self, kept: Float[Array, " kept"]) -> Shape:
        """The map of the second half, given the first."""
        features = kept
        for layer in self.hidden:
            features = jax.nn.silu(layer(features)) * SILU_GAIN
        shift, log_scale, skew = self.last(features).reshape(3, -1)
        # no tails: those of a stack of layers would multiply, and a generator under training run away
        return Shape(shift, _bounded(log_scale, LOG_SCALE), jnp.zeros_like(shift), _bounded(skew, SKEW))


def _bounded(raw: Float[Array, " n"], bound: float) -> Float[Array, " n"]:
    return bound * jnp.tanh(raw / bound)


class CouplingFlow(eqx.Module):
    """x = g(z), one to one and smooth both ways: log p(x) = log N(z; 0, I) - log|det J_g(z)|.

    Layers of couplings, each on another split of the numbers into two halves, then a shape of every number of its own.
    It starts as x = scale z. A student that is to be distilled starts best inside of its target, scale below the
    target's s.d.: outside it, neither score is known well.

    Args:
        shape: shape of a sample, and of the latent.
        layers: number of couplings, 2 or more, so that every number is moved.
        width: hidden features of each.
        depth: hidden layers of each.
        scale: standard deviation of every number at the start.
        key: random key.

    Raises:
        RecipeError: a size below 1, a scale not above 0, fewer than two layers, or a sample of one number, which has no
            halves.
    """

    in_shape: tuple[int, ...] = eqx.field(static=True)
    out_shape: tuple[int, ...] = eqx.field(static=True)
    orders: tuple[tuple[int, ...], ...] = eqx.field(static=True)  # of each layer: its first half, then its second
    layers: tuple[Layer, ...]
    last: Shape  # of every number; tail and skew before they are bounded

    def __init__(
        self,
        shape: tuple[int, ...],
        layers: int = 6,
        width: int = 64,
        depth: int = 2,
        scale: float = 1.0,
        *,
        key: Key[Array, ""],
    ) -> None:
        check_shape("CouplingFlow", "shape", shape)
        check_sizes("CouplingFlow", {"layers": layers, "width": width, "depth": depth})
        size = math.prod(shape)
        if size < 2 or layers < 2:
            raise RecipeError(
                f"CouplingFlow: {layers} layers for a sample of {size} numbers; expected at least 2 of both, as each "
                "layer moves one half by the other. Use an MLP where the density of samples is not needed."
            )
        if not scale > 0:
            raise RecipeError(f"CouplingFlow: scale is {scale}; expected a standard deviation above 0, in data units.")
        self.in_shape = self.out_shape = shape
        # an order for each layer: at random, then the same with the halves exchanged; fixed by the sizes alone
        rng = np.random.default_rng(size)
        orders: list[np.ndarray] = []
        while len(orders) < layers:
            order = rng.permutation(size)
            orders += [order, np.roll(order, size - size // 2)]  # what was moved comes first
        self.orders = tuple(tuple(int(i) for i in order) for order in orders[:layers])
        kept = size // 2
        self.layers = tuple(Layer(kept, size - kept, width, depth, key=k) for k in jax.random.split(key, layers))
        nothing = jnp.zeros(size)
        self.last = Shape(nothing, nothing + math.log(scale), nothing, nothing)

    def __call__(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Generate one sample.

        Args:
            z: latent of the sample's shape.

        Raises:
            RecipeError: z is of another shape.
        """
        return self.placed(z).x

    def placed(self, z: Float[Array, "..."]) -> Placed:
        """One sample and the log-determinant at its latent."""
        check_input("CouplingFlow", z.shape, self.in_shape)
        x, log_det = z.reshape(-1), jnp.zeros(())
        for order, layer in zip(self.orders, self.layers, strict=True):
            kept, moved = _halves(x, order)
            after = layer.shape(kept).forward(moved)
            x = jnp.concatenate([kept, after.x])[np.argsort(order)]
            log_det = log_det + after.log_det
        end = self._last().forward(x)
        return Placed(end.x.reshape(self.out_shape), log_det + end.log_det)

    def inverse(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The latent of one sample."""
        check_input("CouplingFlow", x.shape, self.out_shape)
        z = self._last().inverse(x.reshape(-1))
        for order, layer in reversed(list(zip(self.orders, self.layers, strict=True))):
            kept, moved = _halves(z, order)
            z = jnp.concatenate([kept, layer.shape(kept).inverse(moved)])[np.argsort(order)]
        return z.reshape(self.in_shape)

    def _last(self) -> Shape:
        last = self.last
        return Shape(last.shift, last.log_scale, _bounded(last.log_tail, LOG_TAIL), _bounded(last.skew, SKEW))


def _halves(x: Float[Array, " d"], order: tuple[int, ...]) -> tuple[Array, Array]:
    ordered = x[np.asarray(order)]
    return ordered[: len(order) // 2], ordered[len(order) // 2 :]
