"""What training keeps from one step to the next: modules with their optimisers' states, by name."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from pplemd.learning.loop import AbstractState
from pplemd.learning.optimisers import norm

FEW = 20  # numbers in all that are followed by name


class Learner(eqx.Module):
    """A module and the state of the optimiser that trains it.

    Attributes:
        module: what is trained; its parameters are its inexact arrays, or some of them.
        memory: the optimiser's state.
        skipped: updates skipped so far because their gradient was not finite.
        skipped_in_a_row: updates skipped since the last good one.
    """

    module: PyTree
    memory: optax.OptState
    skipped: Int[Array, ""]
    skipped_in_a_row: Int[Array, ""]

    @property
    def visible(self) -> "Learner":
        """The same without its optimiser's state, which nobody looks at."""
        return dataclasses.replace(self, memory=None)


def parameters_of(module: PyTree) -> PyTree:
    """All inexact arrays of a module; None elsewhere."""
    return eqx.filter(module, eqx.is_inexact_array)


def learner(
    module: PyTree,
    optimiser: optax.GradientTransformation,
    parameters: Callable[[PyTree], PyTree] = parameters_of,
) -> Learner:
    """A module about to be trained: a copy, since the loop donates its buffers and a teacher may share them.

    Args:
        module: the module.
        optimiser: of its parameters.
        parameters: gives those of a module, with None elsewhere.
    """
    own = copied(module)
    memory = optimiser.init(parameters(own))
    return Learner(own, memory, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def copied(module: PyTree) -> PyTree:
    """The same module with buffers of its own, and types that say what they are: weak ones would compile twice."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, leaf.dtype) if eqx.is_array(leaf) else leaf, module)


def descend(
    current: Learner,
    gradient: PyTree,
    optimiser: optax.GradientTransformation,
    objective: Callable[[PyTree], Float[Array, ""]] | None = None,
) -> Learner:
    """One update of the module's parameters; skipped and counted where the gradient's norm is not finite.

    A skipped update leaves the parameters as they are, and is a gradient of zero to the optimiser's memory. Selecting
    zeros fuses into the update; restoring the memory, as optax.apply_if_finite does, copies it at every step.

    Args:
        current: the module and its optimiser's state.
        gradient: of the module's structure, None where the module is not trained.
        optimiser: the Optax transformation that the learner was made with.
        objective: what is descended, of a module; passed to an optimiser that needs it, Optax's `value_fn`.
    """
    trained = jax.tree.map(lambda slope: slope is not None, gradient, is_leaf=lambda slope: slope is None)
    parameters, fixed = eqx.partition(current.module, trained)
    size = norm(gradient)
    finite = jnp.isfinite(size)

    def unless_skipped(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), tree)

    with jax.numpy_dtype_promotion("standard"):  # Optax raises a float to an integer count
        further: dict[str, Any] = {"size": unless_skipped(size)}  # one who clips by it need not take it again
        if objective is not None:
            further["value_fn"] = lambda moving: objective(eqx.combine(moving, fixed))
        update = optax.with_extra_args_support(optimiser).update
        updates, memory = update(unless_skipped(gradient), current.memory, parameters, **further)
    module = eqx.apply_updates(current.module, unless_skipped(updates))
    skipped = jnp.where(finite, 0, 1)
    return Learner(module, memory, current.skipped + skipped, skipped * (current.skipped_in_a_row + 1))


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


def followed(module: PyTree) -> dict[str, Float[Array, ""]]:
    """The numbers of a module's parameters that are followed by name: all where they are few, else single ones."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(module, eqx.is_inexact_array))
    named = [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]
    if sum(leaf.size for _, leaf in named) > FEW:
        named = [(path, leaf) for path, leaf in named if leaf.size == 1][:FEW]
    return {
        path if leaf.size == 1 else f"{path}.{place}": number
        for path, leaf in named
        for place, number in enumerate(leaf.reshape(-1))
    }


class TrainState(AbstractState):
    """What the next step needs, and what a checkpoint keeps.

    Attributes:
        step: steps done.
        learners: the networks under training, with their optimisers' states, by name.
        averages: moving averages of networks, by name: what is sampled and evaluated.
        memory: what the algorithm keeps besides, such as the positions of its chains; or None.
        tuning: what its chains are tuned by, such as step sizes and coordinates; or None.
    """

    step: Int[Array, ""]
    learners: dict[str, Learner]
    averages: dict[str, PyTree]
    memory: PyTree = None
    tuning: PyTree = None

    @property
    def networks(self) -> dict[str, PyTree]:
        """The networks as they are, by name."""
        return {name: learner.module for name, learner in self.learners.items()}

    @property
    def skipped_in_a_row(self) -> Int[Array, ""]:
        """Updates skipped since the last good one, of the network that skipped most."""
        return jnp.max(jnp.stack([learner.skipped_in_a_row for learner in self.learners.values()]))

    @property
    def visible(self) -> "TrainState":
        """The state without what its optimisers remember."""
        return dataclasses.replace(self, learners={name: one.visible for name, one in self.learners.items()})
