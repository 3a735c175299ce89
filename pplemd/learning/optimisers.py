"""Optimisers as values of an algorithm; each becomes an Optax transformation."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from pplemd.errors import RecipeError


class AbstractOptimiser(eqx.Module):
    """A declared optimiser."""

    @abstractmethod
    def transformation(self, steps: int) -> optax.GradientTransformation:
        """The Optax transformation for a run of `steps` updates."""

    @abstractmethod
    def interleaves(self, parameters: int) -> bool:
        """Whether a fit of so many parameters takes the latents' forms in turn in its M-steps."""


class Adam(AbstractOptimiser):
    """Adam with warm-up, cosine decay and clipping of the global gradient norm.

    Attributes:
        learning_rate: peak step.
        b1: decay of the first moment; 0 in the EMD paper and most distillers, and then no first moment is kept.
        b2: decay of the second moment.
        clip: largest global norm of a gradient; 0 for no clipping.
        warmup: updates of linear warm-up.
        final: share of the learning rate that the cosine decay ends at; 1 for no decay.
    """

    learning_rate: float = 1e-3
    b1: float = 0.9
    b2: float = 0.99
    clip: float = 1.0
    warmup: int = 0
    final: float = 1.0

    def __check_init__(self):
        if not (self.learning_rate > 0 and 0 <= self.b1 < 1 and 0 <= self.b2 < 1 and self.clip >= 0):
            raise RecipeError(
                "Adam needs learning_rate > 0, b1 and b2 in [0, 1) and clip >= 0; found "
                f"learning_rate={self.learning_rate}, b1={self.b1}, b2={self.b2}, clip={self.clip}."
            )
        if self.warmup < 0 or not 0 <= self.final <= 1:
            raise RecipeError(
                f"Adam needs warmup >= 0 and final in [0, 1]; found warmup={self.warmup}, final={self.final}."
            )

    def transformation(self, steps: int) -> optax.GradientTransformation:
        """Clip, then Adam under the schedule."""
        scaled = optax.scale_by_adam(b1=self.b1, b2=self.b2) if self.b1 else _second_moment_alone(self.b2)
        adam = optax.chain(scaled, optax.scale_by_learning_rate(self._schedule(steps)))
        return optax.chain(_clipped(self.clip), adam) if self.clip else adam

    def interleaves(self, parameters: int) -> bool:
        """Never: its second moments are of gradients of one form."""
        return False

    def _schedule(self, steps: int) -> optax.Schedule:
        decay = optax.cosine_decay_schedule(self.learning_rate, max(steps - self.warmup, 1), alpha=self.final)
        if not self.warmup:
            return decay
        return optax.join_schedules([optax.linear_schedule(0.0, self.learning_rate, self.warmup), decay], [self.warmup])


def _second_moment_alone(decay: float) -> optax.GradientTransformation:
    """Adam's scaling with b1 = 0, without the memory of a first moment."""
    return optax.scale_by_rms(decay, eps=1e-8, eps_in_sqrt=False, bias_correction=True)  # 1e-8: Adam's


class Optax(AbstractOptimiser):
    """Any Optax transformation, as it is.

    Attributes:
        given: the transformation, with its own schedule.
    """

    given: optax.GradientTransformation

    def transformation(self, steps: int) -> optax.GradientTransformation:
        """The transformation that was given."""
        return self.given

    def interleaves(self, parameters: int) -> bool:
        """Never: what it remembers may be of one form."""
        return False


def norm(gradient: PyTree) -> Float[Array, ""]:
    """The Euclidean norm of all of a gradient's numbers together.

    As optax.tree.norm, but that XLA for GPUs compiles it where an array holds one number, such as the bias of a single
    channel. Merging the sum over it with what comes after, XLA ends with an internal error (jax 0.11, "Expected
    instruction to have shape equal to f32[], actual shape is f32[1]"); the barrier keeps them apart. Vectors, of which
    a network has hundreds, are summed as one: three operations for all of them, not for each.
    """
    leaves = jax.tree.leaves(gradient)
    vectors = [leaf for leaf in leaves if leaf.ndim == 1]
    joined = [jnp.concatenate(vectors)] if vectors else []
    squares = [jnp.sum(jnp.square(leaf)) for leaf in (*joined, *(leaf for leaf in leaves if leaf.ndim != 1))]
    return jnp.sqrt(sum(jax.lax.optimization_barrier(squares), jnp.zeros(())))


def _clipped(most: float) -> optax.GradientTransformationExtraArgs:
    """optax.clip_by_global_norm by `norm`, which whoever knows it already tells by the name `size`.

    A factor of all fuses into what comes after; a division of each number is done, and written, once for all of it.
    """

    def clip(
        updates: PyTree, state: optax.OptState, params: PyTree | None = None, *, size: Array | None = None, **_: Any
    ) -> tuple[PyTree, optax.OptState]:
        known = norm(updates) if size is None else size
        factor = jnp.where(known < most, 1.0, most / known)
        return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), clip)
