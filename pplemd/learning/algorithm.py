"""The contract of an algorithm: which networks learn, from which draws, by which losses, how often in a step."""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from pplemd.devices import mean_over_rows, over_rows
from pplemd.learning.alarms import Alarm, History, Watched, alarms
from pplemd.learning.optimisers import AbstractOptimiser
from pplemd.learning.state import TrainState, parameters_of
from pplemd.learning.training import Training, averaged, mapped

ResultT = TypeVar("ResultT")
RowsT = TypeVar("RowsT")
ModuleT = TypeVar("ModuleT")
ContextT = TypeVar("ContextT", bound="Context")
AlgorithmT = TypeVar("AlgorithmT", bound="AbstractAlgorithm")
Figures = dict[str, Float[Array, ""]]
Loss = tuple[Float[Array, ""], Figures]


class Context(eqx.Module):
    """What is fixed for a training; each kind of task adds what it has: a problem, a teacher, data.

    Attributes:
        training: its numbers.
    """

    training: Training

    def each(self, function: Callable[..., ResultT], *rows: PyTree) -> ResultT:
        """`jax.vmap(function)(*rows)`: device by device, microbatch by microbatch. Nothing in it draws at random."""

        def some_of(*some: PyTree) -> ResultT:
            return mapped(function, some, self.training.parts(jax.tree.leaves(some)[0].shape[0]))

        return over_rows(some_of, *rows)

    def mean(self, function: Callable[[RowsT], ResultT], rows: RowsT) -> ResultT:
        """The mean over a batch of what is a mean over some of its rows: device by device, microbatch by microbatch."""
        return mean_over_rows(lambda some: averaged(function, (some,), self.training.microbatches), rows)


class StepInput(eqx.Module):
    """Where a training is when an update begins: what draws and losses look at, and leave alone.

    Attributes:
        networks: by name, as the updates before this one left them.
        memory: what the algorithm keeps from step to step.
        tuning: what its chains are tuned by.
        step: steps done.
        progress: share of the training that is done.
        repeat: which of the update's repetitions in this step it is.
        key: of this step; draws take theirs from it by name (`pplemd.keys.named`). Outside of a step, that of 0.
    """

    networks: dict[str, PyTree]
    memory: PyTree
    tuning: PyTree
    step: Int[Array, ""]
    progress: Float[Array, ""]
    repeat: int = eqx.field(static=True)
    key: PRNGKeyArray

    @classmethod
    def at(
        cls, state: TrainState, progress: Float[Array, ""], key: PRNGKeyArray | None = None, repeat: int = 0
    ) -> "StepInput":
        """What an update of this state looks at."""
        chosen = jax.random.key(0) if key is None else key
        return cls(state.networks, state.memory, state.tuning, state.step, progress, repeat, chosen)


@dataclasses.dataclass(frozen=True)
class Update(Generic[ContextT, RowsT]):
    """One update of one network.

    Attributes:
        network: the name of the network that descends.
        draw: (context, input) -> rows: everything random, and all that needs no gradient. Each leaf has a leading batch
            dimension.
        loss: (network, context, input, rows) -> the mean loss over rows, and figures of it; differentiated in the
            network alone.
        times: updates in one step.
        parts: what the draws and the descent are called in the step's trace, where their cost is counted.
    """

    network: str
    draw: Callable[[ContextT, StepInput], RowsT]
    loss: Callable[[PyTree, ContextT, StepInput, RowsT], Loss]
    times: int = 1
    parts: tuple[str, str] = ("draws", "update")


class AbstractAlgorithm(eqx.Module, Generic[ContextT]):
    """How networks learn. An algorithm is a record of its own numbers and one file: draws, losses, updates.

    The loop, checkpoints, health checks, averages and devices go by the names of its networks.
    """

    @abstractmethod
    def optimisers(self) -> dict[str, AbstractOptimiser]:
        """The optimiser of each network that learns, by the network's name."""

    @abstractmethod
    def updates(self) -> tuple[Update, ...]:
        """The updates of one step, in order."""

    def averages(self) -> dict[str, float]:
        """The decay of each network's moving average, by the network's name; the first is what is sampled."""
        return {}

    def parameters(self, context: ContextT, name: str, network: PyTree) -> PyTree:
        """What of a network is trained, None elsewhere; by default all inexact arrays."""
        return parameters_of(network)

    def preparation(self) -> str | None:
        """What is drawn before the first step, in words; None for nothing."""
        return None

    def prepare(self, context: ContextT, key: PRNGKeyArray, advance: Callable[[float], None]) -> dict[str, PyTree]:
        """What is drawn before the first step, by name; `advance` is called with the share that is done."""
        return {}

    def begin(self, context: ContextT, networks: dict[str, PyTree]) -> tuple[PyTree, PyTree]:
        """Memory and tuning before the first step."""
        return None, None

    def keep(
        self, context: ContextT, before: StepInput, drawn: dict[str, PyTree], networks: dict[str, PyTree]
    ) -> tuple[PyTree, PyTree]:
        """Memory and tuning after a step.

        Args:
            context: of the training.
            before: where the step began.
            drawn: the last rows of each network's updates, by name.
            networks: as the step left them.
        """
        return before.memory, before.tuning

    def figures(self, context: ContextT, networks: dict[str, PyTree]) -> Figures:
        """Figures of networks as a step began with them, beside those of its losses."""
        return {}

    def adjusts_every(self, context: ContextT) -> int | None:
        """Steps between adjustments outside of the compiled step; None for none."""
        return None

    def adjust(self, context: ContextT, key: PRNGKeyArray, state: TrainState) -> tuple[TrainState, dict[str, float]]:
        """The state adjusted, of the same shapes, and figures of that: of key and state alone, so that it repeats."""
        return state, {}

    def health(self, context: ContextT, state: TrainState, key: PRNGKeyArray) -> Figures:
        """Figures of how healthy the training is, from draws of their own; compiled by who calls it."""
        return {}

    def conclusion(self, context: ContextT, state: TrainState, key: PRNGKeyArray) -> dict[str, float]:
        """Figures of the last line of metrics.jsonl alone; called once, with the run's key."""
        return {}

    def alarms(self, training: Training, history: History, rows: int = 1) -> tuple[Alarm, ...]:
        """What the newest line gives reason to be alarmed about, in the light of those before.

        Args:
            training: its numbers.
            history: lines of metrics.jsonl, the newest last.
            rows: that a likelihood has, where figures are of one of them.
        """
        return alarms(history, Watched(training))

    def shown(self) -> tuple[str, ...]:
        """The figures that matter most while a training is under way."""
        return ("gradient_norm",)

    def counts(self) -> dict[str, int]:
        """What a step consists of beside its samples, by name, for people."""
        return {}

    @classmethod
    def following(cls: type[AlgorithmT], other: "AbstractAlgorithm") -> AlgorithmT:
        """One of this kind in the place of another: numbers that both have are the other's."""
        if isinstance(other, cls):
            return other
        own = {field.name for field in dataclasses.fields(cls)}
        shared = [field.name for field in dataclasses.fields(other) if field.name in own]
        return cls(**{name: getattr(other, name) for name in shared})
