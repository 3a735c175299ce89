"""One training step of any algorithm: its updates one after the other, then averages and what it keeps."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from pplemd.learning.algorithm import AbstractAlgorithm, Context, Figures, StepInput, Update
from pplemd.learning.optimisers import norm
from pplemd.learning.state import Learner, TrainState, average, copied, descend, learner, warmed


class Step(eqx.Module):
    """(state, key) -> (state, metrics): what the loop compiles.

    Attributes:
        context: what is fixed for the training.
        algorithm: how its networks learn.

    Raises:
        RecipeError: where the batch cannot be cut into the training's microbatches.
    """

    context: Context
    algorithm: AbstractAlgorithm

    def __check_init__(self) -> None:
        self.context.training.check_microbatches()

    def init(self, networks: dict[str, PyTree]) -> TrainState:
        """The state before the first step.

        Args:
            networks: at their start, by name.
        """
        learners = {
            name: learner(networks[name], self._optimiser(name), self._parameters(name))
            for name in self.algorithm.optimisers()
        }
        averages = {name: copied(networks[name]) for name in self.algorithm.averages()}
        return TrainState(jnp.zeros((), jnp.int32), learners, averages, *self.algorithm.begin(self.context, networks))

    def __call__(self, state: TrainState, key: PRNGKeyArray) -> tuple[TrainState, Figures]:
        """One step."""
        progress = state.step / self.context.training.steps
        begun, now = StepInput.at(state, progress, key), state
        drawn, metrics = dict[str, PyTree](), Figures()
        for update in self.algorithm.updates():
            name, found = update.network, []
            for repeat in range(update.times):
                seen = StepInput.at(now, progress, key, repeat)
                with jax.named_scope(update.parts[0]):
                    drawn[name] = update.draw(self.context, seen)
                with jax.named_scope(update.parts[1]):
                    after, figures = self._descended(update, now.learners[name], seen, drawn[name])
                now = dataclasses.replace(now, learners={**now.learners, name: after})
                found.append(figures)
            metrics |= jax.tree.map(lambda *several: jnp.mean(jnp.stack(several)), *found)
        learners, networks = now.learners, now.networks
        skipped = [learners[name].skipped - state.learners[name].skipped for name in learners]
        metrics |= self.algorithm.figures(self.context, begun.networks)
        metrics["skipped"] = sum(skipped, jnp.zeros((), jnp.int32)).astype(jnp.float32)
        averages = {
            name: self._averaged(name, state.averages[name], networks[name], warmed(decay, state.step))
            for name, decay in self.algorithm.averages().items()
        }
        kept = self.algorithm.keep(self.context, begun, drawn, networks)
        return TrainState(state.step + 1, learners, averages, *kept), metrics

    def _descended(self, update: Update, current: Learner, now: StepInput, rows: PyTree) -> tuple[Learner, Figures]:
        """A network after one update, and the figures of it."""
        trained, context = self._parameters(update.network), self.context
        moving, fixed = _split(current.module, trained)

        def slope(some: PyTree) -> tuple[PyTree, Figures]:
            def loss(moving: PyTree) -> tuple[Float[Array, ""], Figures]:
                return update.loss(eqx.combine(moving, fixed), context, now, some)

            return eqx.filter_grad(loss, has_aux=True)(moving)

        def objective(network: PyTree) -> Float[Array, ""]:
            return context.mean(lambda some: update.loss(network, context, now, some)[0], rows)

        gradient, figures = context.mean(slope, rows)
        if next(iter(self.algorithm.averages()), None) == update.network:
            figures = {**figures, "gradient_norm": norm(gradient)}
        return descend(current, gradient, self._optimiser(update.network), objective), figures

    def _averaged(self, name: str, so_far: PyTree, network: PyTree, decay: Float[Array, ""]) -> PyTree:
        kept, _ = _split(so_far, self._parameters(name))
        moving, fixed = _split(network, self._parameters(name))
        return eqx.combine(average(kept, moving, decay), fixed)

    def _parameters(self, name: str) -> Callable[[PyTree], PyTree]:
        """What gives the trained part of a network."""
        return lambda network: self.algorithm.parameters(self.context, name, network)

    def _optimiser(self, name: str) -> optax.GradientTransformation:
        """The Optax transformation of a network, over all its updates."""
        times = sum(update.times for update in self.algorithm.updates() if update.network == name)
        return self.algorithm.optimisers()[name].transformation(self.context.training.steps * times)


def _split(network: PyTree, parameters: Callable[[PyTree], PyTree]) -> tuple[PyTree, PyTree]:
    """What of a network is trained, and the rest: two of its structure."""
    trained = jax.tree.map(lambda leaf: leaf is not None, parameters(network), is_leaf=lambda leaf: leaf is None)
    return eqx.partition(network, trained)
