"""The numbers that every training has, whatever learns; a batch cut into microbatches."""

from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from pplemd.errors import RecipeError
from pplemd.networks import NetworkPrecision, narrowed, with_precision

ResultT = TypeVar("ResultT", bound=PyTree)


def mapped(function: Callable[..., ResultT], arguments: tuple[PyTree, ...], parts: int) -> ResultT:
    """`jax.vmap(function)(*arguments)`, a microbatch at a time.

    Args:
        function: of one sample.
        arguments: its arguments, pytrees with a leading batch dimension; None for one that is not there.
        parts: microbatches, at least: as many as divide the batch.
    """
    parts = dividing(_count(arguments), parts)
    if parts == 1:
        return jax.vmap(function)(*arguments)
    return _joined(jax.lax.map(lambda some: jax.vmap(function)(*some), _cut(arguments, parts)))


def averaged(function: Callable[..., ResultT], arguments: tuple[PyTree, ...], parts: int) -> ResultT:
    """The mean over microbatches of what a function gives for each: of losses and gradients that are means themselves.

    Args:
        function: of a microbatch; its result is a pytree of floating-point arrays.
        arguments: its arguments, pytrees with a leading batch dimension.
        parts: microbatches, at least: as many as divide the batch.
    """
    parts = dividing(_count(arguments), parts)
    if parts == 1:
        return function(*arguments)
    cut = _cut(arguments, parts)
    first = jax.tree.map(lambda leaf: leaf[0], cut)
    like = jax.eval_shape(function, *first)
    zeros: Any = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)  # no weak types

    def add(sums: ResultT, some: Any) -> tuple[ResultT, None]:
        return jax.tree.map(jnp.add, sums, function(*some)), None

    sums, _ = jax.lax.scan(add, zeros, cut)
    return jax.tree.map(lambda leaf: leaf / parts, sums)


def dividing(count: int, parts: int) -> int:
    """The least number of equal parts of `count` samples that is not less than `parts`; one sample is the smallest."""
    return next((more for more in range(parts, count) if count % more == 0), count)


def _count(tree: PyTree) -> int:
    """Samples of a batch."""
    return jax.tree.leaves(tree)[0].shape[0]


def _cut(tree: PyTree, parts: int) -> PyTree:
    """Sample i goes into microbatch i mod `parts`: devices that share a batch hold their share of each microbatch."""

    def cut(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(leaf.shape[0] // parts, parts, *leaf.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(cut, tree)


def _joined(tree: PyTree) -> PyTree:
    """Microbatches as the batch that they were cut from."""
    return jax.tree.map(lambda leaf: leaf.swapaxes(0, 1).reshape(-1, *leaf.shape[2:]), tree)


TreeT = TypeVar("TreeT", bound=PyTree)


class Precision(eqx.Module):
    """In which precision networks are computed, and what is computed twice to save memory: the same up to rounding.

    Attributes:
        bf16: networks of denoisers compute in bfloat16, and the teacher's weights are kept in it. Parameters that are
            trained, their optimisers and averages stay in 32 bits, and so does what is done with a network's output:
            preconditioning, (D - x_sigma) / sigma^2, the chains, the losses.
        rematerialise: features are computed again for gradients, not kept: about a third more operations where a
            gradient is taken, and the memory of one block's features instead of all.
    """

    bf16: bool = False
    rematerialise: bool = False

    @property
    def of_networks(self) -> NetworkPrecision:
        """How a denoiser's network is computed."""
        return NetworkPrecision(jnp.bfloat16 if self.bf16 else None, self.rematerialise)

    def of(self, tree: TreeT) -> TreeT:
        """Denoisers computed this way; with the defaults, as they were."""
        return with_precision(tree, self.of_networks) if self.bf16 or self.rematerialise else tree

    def kept(self, teacher: TreeT) -> TreeT:
        """The teacher with its weights in the type that they are used in."""
        return narrowed(teacher, jnp.bfloat16) if self.bf16 else teacher


class Training(eqx.Module):
    """How long, how often and how a training runs; what it learns by is its algorithm's.

    Attributes:
        steps: training steps.
        batch: samples of one step: of a distillation chains or samples, of data their rows.
        seed: seed of everything random.
        precision: of the networks.
        microbatches: parts that a batch is cut into, one after the other: the same draws and the same mean gradient,
            with the features of one part in memory at a time.
        log_every: steps between lines of metrics.jsonl.
        sample_every: steps between pictures and health checks.
        checkpoint_every: steps between checkpoints.
        patience: skipped updates in a row after which the training stops.

    Raises:
        RecipeError: where one of them cannot be.
    """

    steps: int = 6000
    batch: int = 64
    seed: int = 0
    precision: Precision = Precision()
    microbatches: int = 1
    log_every: int = 50
    sample_every: int = 500
    checkpoint_every: int = 500
    patience: int = 20

    def __check_init__(self):
        counts = ("steps", "batch", "microbatches", "log_every", "sample_every", "checkpoint_every", "patience")
        for name in counts:
            if getattr(self, name) < 1:
                raise RecipeError(f"training needs {name} >= 1; found {name}={getattr(self, name)}.")
        if not 0 <= self.seed < 2**32:  # what a JAX key takes
            raise RecipeError(f"training needs 0 <= seed < 2**32; found seed={self.seed}.")

    def check_microbatches(self) -> None:
        """See that the batch can be cut as it is to be; not seen by the record itself, since either may change first.

        Raises:
            RecipeError: where it cannot.
        """
        if self.batch % self.microbatches:
            raise RecipeError(
                "the training's batch must be a multiple of its microbatches, which it is cut into; found "
                f"batch={self.batch}, microbatches={self.microbatches}. Set either: --set training.batch=N, or "
                "--set training.microbatches=N."
            )

    def parts(self, count: int) -> int:
        """Microbatches for `count` samples, none of which is larger than one of the training's own."""
        return dividing(count, -(-count // (self.batch // self.microbatches)))
