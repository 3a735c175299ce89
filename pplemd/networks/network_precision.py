"""How a network is computed: in which type, and what of it is computed twice to spare memory."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, PyTree

from pplemd.conditions import Condition
from pplemd.networks.base import AbstractNetwork

TreeT = TypeVar("TreeT", bound=PyTree)


def _dtype(kind: DTypeLike | None) -> DTypeLike | None:
    """One spelling of a type, so that equal precisions compare equal."""
    return None if kind is None else jnp.dtype(kind)


class NetworkPrecision(eqx.Module):
    """How a network is computed; what it computes is the same up to rounding. It holds no arrays.

    A denoiser keeps one for its network, and a network that has blocks keeps one for them; `with_precision` changes
    them all.

    Attributes:
        dtype: type of products and features, such as jnp.bfloat16; None for the input's. Parameters stay as they are.
        rematerialise: compute features again for the gradient, instead of keeping them: block by block in a network
            that keeps one, else the whole network at once.
    """

    dtype: DTypeLike | None = eqx.field(static=True, default=None, converter=_dtype)
    rematerialise: bool = eqx.field(static=True, default=False)

    def entered(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Features in the type of products."""
        return x if self.dtype is None else x.astype(self.dtype)

    def block(self, apply: Callable[..., Array]) -> Callable[..., Array]:
        """A block, or a network, whose features are kept for its gradient, or computed again.

        It is a call in the trace: blocks of equal shapes, and all networks of one kind, are traced once.
        """
        return eqx.filter_jit(eqx.filter_checkpoint(apply) if self.rematerialise else apply)

    def apply(
        self,
        network: AbstractNetwork,
        x: Float[Array, "*shape"],
        time: Float[Array, ""],
        condition: Condition,
        key: Key[Array, ""] | None,
    ) -> Float[Array, "*shape"]:
        """A network's prediction for one sample, in the sample's own type."""
        keeping = _nodes(network)  # one with blocks sees to them itself
        apply = eqx.filter_jit(network) if keeping else self.block(network)
        return apply(self.entered(x), time, condition, key).astype(x.dtype)


class AbstractWide(eqx.Module):
    """A part of a network that computes in at least 32 bits whatever the input's type, so its weights stay in 32."""


def with_precision(tree: TreeT, precision: NetworkPrecision) -> TreeT:
    """The same networks and denoisers, computed another way.

    Args:
        tree: any pytree: a teacher, a program, a network; of arrays or of shapes.
        precision: how.
    """
    return jax.tree.map(lambda node: precision if _is_one(node) else node, tree, is_leaf=_is_one)


def narrowed(tree: TreeT, dtype: DTypeLike) -> TreeT:
    """The same networks with weights in a narrow type, for those that are evaluated and never trained.

    Only what a network of that type rounds at every call is rounded, once: matrices and kernels, not
    vectors such as biases and norms' gains, and nothing of an `AbstractWide`. So a network whose wide parts are marked
    computes the same, bit for bit.

    Args:
        tree: any pytree; what is in no network stays as it is.
        dtype: a floating-point type, such as jnp.bfloat16.
    """

    def narrow(leaf: Any) -> Any:
        return leaf.astype(dtype) if eqx.is_inexact_array(leaf) and leaf.ndim > 1 else leaf

    def part(node: Any) -> Any:
        return node if isinstance(node, AbstractWide) else narrow(node)

    def network(node: Any) -> Any:
        if not isinstance(node, AbstractNetwork):
            return node
        return jax.tree.map(part, node, is_leaf=lambda inner: isinstance(inner, AbstractWide))

    return jax.tree.map(network, tree, is_leaf=lambda node: isinstance(node, AbstractNetwork))


def _is_one(node: Any) -> bool:
    return isinstance(node, NetworkPrecision)


def _nodes(tree: PyTree) -> bool:
    return any(map(_is_one, jax.tree.leaves(tree, is_leaf=_is_one)))
