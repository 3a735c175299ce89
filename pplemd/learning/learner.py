"""A module under training: its value and its optimiser's state."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree


class Learner(eqx.Module):
    """A module and the state of the optimiser that trains it.

    Attributes:
        module: what is trained; its inexact arrays are the parameters.
        memory: the optimiser's state, an Optax apply_if_finite state.
    """

    module: PyTree
    memory: optax.ApplyIfFiniteState

    @property
    def skipped(self) -> Int[Array, ""]:
        """Updates skipped so far because their gradient was not finite."""
        return self.memory.total_notfinite

    @property
    def skipped_in_a_row(self) -> Int[Array, ""]:
        """Updates skipped since the last good one."""
        return self.memory.notfinite_count


def learner(module: PyTree, optimiser: optax.GradientTransformation) -> Learner:
    """A module about to be trained: a copy, since the loop donates its buffers and a teacher may share them."""
    return Learner(copied(module), optimiser.init(eqx.filter(module, eqx.is_inexact_array)))


def copied(module: PyTree) -> PyTree:
    """The same module with buffers of its own."""
    return jax.tree.map(lambda leaf: jnp.copy(leaf) if eqx.is_array(leaf) else leaf, module)


def descend(current: Learner, gradient: PyTree, optimiser: optax.GradientTransformation) -> Learner:
    """One update of the module's parameters against a gradient of the module's structure."""
    parameters = eqx.filter(current.module, eqx.is_inexact_array)
    with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer count
        updates, memory = optimiser.update(gradient, current.memory, parameters)
    return Learner(eqx.apply_updates(current.module, updates), memory)


def average(average_so_far: PyTree, module: PyTree, decay: Float[Array, ""] | float) -> PyTree:
    """Exponential moving average of a module's parameters: decay * average + (1 - decay) * module."""
    kept, _ = eqx.partition(average_so_far, eqx.is_inexact_array)
    new, rest = eqx.partition(module, eqx.is_inexact_array)
    return eqx.combine(optax.incremental_update(new, kept, 1 - decay), rest)


def warmed(decay: float, step: Int[Array, ""]) -> Float[Array, ""]:
    """The decay of an average after `step` updates, min(decay, (1 + step) / (10 + step)): a short memory at the start.

    Source: the rule of TensorFlow's ExponentialMovingAverage for `num_updates`.
    """
    return jnp.minimum(decay, (1 + step) / (10 + step))
