"""Optimisers as values of an algorithm, Newton's M-step among them; each becomes an Optax transformation."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

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
    """optax.clip_by_global_norm by `norm`, which whoever knows it already passes as `size`.

    A factor of all fuses into what comes after; a division of each number is done, and written, once for all of it.
    """

    def clip(
        updates: PyTree, state: optax.OptState, params: PyTree | None = None, *, size: Array | None = None, **_: Any
    ) -> tuple[PyTree, optax.OptState]:
        known = norm(updates) if size is None else size
        factor = jnp.where(known < most, 1.0, most / known)
        return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), clip)


FORMS = 2  # of the latents, non-centered and centered, whose M-steps take turns
FLOOR = 1e-5  # of the eigenvalues, diagonal 1: what a float32 tells from 0
REACH = 4.0  # times max(1, |parameter|): how far one step may go where there is hardly any curvature
HALVINGS = 12  # of a step that does not climb
ROUNDING = 1e-5  # of the value: less is no descent, but a sum of float32
SLOWLY, POWER = 10.0, 2 / 3  # gains (1 + k / 10)^(-2/3): they sum to infinity, their squares do not


class Newton(AbstractOptimiser):
    """Newton's steps for programs of few parameters, and another optimiser for the rest.

    Each step moves the parameters by -H^-1 g of the complete-data log-likelihood at the chains' draws: H with absolute
    eigenvalues, halved until the value does not get worse. Gains are 1 in the first part of a run, then fall, and H is
    averaged with the same gains. So neither the parameters' scales nor the number of data matter. Parameters travel
    as far as they have to, whatever the number of steps. M-steps take the latents' forms in turn, non-centered
    and centered: where one form hardly moves a parameter, the other does.

    Source: Lange 1995 (the EM gradient algorithm); Gu and Kong 1998 (gains, averaged curvature); Meng and van Dyk 1997
    (an augmentation in each turn); Yu and Meng 2011 (why both forms).

    Attributes:
        most: parameters, numbers in all, up to which steps are Newton's.
        settle: share of the steps after which gains fall.
        beyond: for programs of more parameters, such as networks.
    """

    most: int = 64
    settle: float = 0.5
    beyond: Adam = Adam(learning_rate=1e-2, clip=0.0, final=0.02)

    def __check_init__(self):
        if self.most < 1 or not 0 <= self.settle <= 1:
            raise RecipeError(
                f"Newton needs most >= 1 and settle in [0, 1]; found most={self.most}, settle={self.settle}."
            )

    def interleaves(self, parameters: int) -> bool:
        """M-steps take turns where they are Newton's."""
        return parameters <= self.most

    def transformation(self, steps: int) -> optax.GradientTransformation:
        """Newton's steps, for as many updates; they need `value_fn`, which `descend` passes."""
        beyond = optax.with_extra_args_support(self.beyond.transformation(steps))

        def init(params: PyTree) -> optax.OptState:
            size = sum(leaf.size for leaf in jax.tree.leaves(params))
            if not self.interleaves(size):
                return beyond.init(params)
            return Memory(jnp.zeros((), jnp.int32), jnp.zeros((FORMS, size, size)))

        def update(
            updates: PyTree,
            state: optax.OptState,
            params: PyTree | None = None,
            *,
            value_fn: Callable[[PyTree], Array] | None = None,
            **further: Any,
        ) -> tuple[PyTree, optax.OptState]:
            if not isinstance(state, Memory):
                return beyond.update(updates, state, params, **further)
            if value_fn is None or params is None:
                raise RecipeError("Newton needs the likelihood that it climbs, which em.Fit alone has; distil by Adam.")
            gain = (1 + jnp.maximum(state.count - self.settle * steps, 0) / SLOWLY) ** -POWER
            # the update of one step, and the memory after it
            at, unravel = ravel_pytree(params)
            form = state.count % FORMS

            def value(theta: Array) -> Array:
                return value_fn(unravel(theta))

            kept, seen = state.curvature[form], jax.hessian(value)(at)
            mixed = jnp.where(jnp.all(jnp.isfinite(seen)), kept + gain * (seen - kept), kept)
            move = gain * newton_step(ravel_pytree(updates)[0], mixed, REACH * jnp.maximum(1.0, jnp.abs(at)))
            before = value(at)
            most = before + ROUNDING * (1 + jnp.abs(before))

            def worse(share: Array) -> Array:
                return (share > 0) & ~(value(at + share * move) <= most)  # what is not finite is worse

            def halved(share: Array) -> Array:
                return jnp.where(share > 0.5**HALVINGS, share / 2, 0.0)

            move = jax.lax.while_loop(worse, halved, jnp.ones(())) * move
            return unravel(move), Memory(state.count + 1, state.curvature.at[form].set(mixed))

        return optax.GradientTransformationExtraArgs(init, update)


class Memory(eqx.Module):
    """What Newton's next step needs.

    Attributes:
        count: updates so far; odd ones are of the centered form.
        curvature: running means of the Hessian of each form.
    """

    count: Int[Array, ""]
    curvature: Float[Array, "forms p p"]


def newton_step(
    gradient: Float[Array, " p"], curvature: Float[Array, "p p"], reach: Float[Array, " p"]
) -> Float[Array, " p"]:
    """-|H|^-1 g, of what is descended; `reach` as in `spectrum`."""
    scale, values, vectors = spectrum(gradient, curvature, reach)
    return -(vectors @ ((vectors.T @ (gradient / scale)) / values)) / scale


def spectrum(
    gradient: Float[Array, " p"], curvature: Float[Array, "p p"], reach: Float[Array, " p"]
) -> tuple[Float[Array, " p"], Float[Array, " p"], Float[Array, "p p"]]:
    """Scales that make the diagonal of H one, and its eigenvalues in absolute value, bounded below, with eigenvectors.

    Args:
        gradient: of what is descended.
        curvature: its Hessian.
        reach: how far each parameter may go by itself: where there is less curvature, it is raised.
    """
    scale = jnp.sqrt(jnp.maximum(jnp.abs(jnp.diag(curvature)), jnp.abs(gradient) / reach))
    scale = jnp.where(scale > 0, scale, 1.0)
    unit = curvature / jnp.outer(scale, scale)
    values, vectors = jnp.linalg.eigh(unit + jnp.diag(1.0 - jnp.abs(jnp.diag(unit))))
    return scale, jnp.maximum(jnp.abs(values), FLOOR), vectors
