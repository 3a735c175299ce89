"""The protocol of a task: declared by a model file, planned by shapes alone, put together, trained, judged."""

import dataclasses
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import equinox as eqx
from jaxtyping import PRNGKeyArray
from PIL import Image

from pplemd.devices import ONE, Devices
from pplemd.diagnosis import Finding, Row
from pplemd.dsl import Problem
from pplemd.errors import DeviceError, RecipeError
from pplemd.importers import Imported
from pplemd.inference import NUTS, AbstractKernel
from pplemd.keys import named
from pplemd.learning import (
    AbstractAlgorithm,
    Adjustment,
    History,
    Step,
    Training,
    TrainState,
    Watcher,
    Window,
    first_window,
    fit,
)
from pplemd.report.progress import AbstractReporter
from pplemd.storage.checkpoints import Checkpoints
from pplemd.tasks.override import as_data, check_fields, override

ResultT = TypeVar("ResultT")
TaskT = TypeVar("TaskT", bound="AbstractTask")
ShapesT = TypeVar("ShapesT")


class AbstractTask(ABC):
    """What a model file declares, a frozen dataclass. Nothing is computed until it is planned or trained.

    Attributes:
        algorithm: how its networks learn, and by which numbers.
        training: how long, how often, in which precision.
        command: the command that trains it.
        single: whether it computes in 32 bits, whatever JAX's mode.
        supporting: whether it is a part of other tasks, so that a file that declares both means the others.
        numbers: the fields that hold its numbers, which `--set` changes.
    """

    command: ClassVar[str]
    single: ClassVar[bool] = True
    supporting: ClassVar[bool] = False
    numbers: ClassVar[tuple[str, ...]] = ("algorithm", "training")

    algorithm: AbstractAlgorithm
    training: Training

    @abstractmethod
    def plan(self) -> "AbstractPlan":
        """Trace it once, abstractly; every mistake that can be seen without running it is found here.

        Raises:
            PplemdError: where something of it does not fit.
        """

    @abstractmethod
    def learned_from(self) -> dict[str, object]:
        """What config.json says that it learns from, as JSON data: a teacher or data, by their digests."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What it is, in a phrase for messages."""

    @property
    def imported(self) -> Imported | None:
        """Its teacher, where it is one that the user brings."""
        return None

    def with_teacher(self: TaskT, path: Path) -> TaskT:
        """The same with the checkpoint of its teacher.

        Raises:
            RecipeError: where it takes none.
        """
        raise RecipeError(f"--teacher {path}: {self.words} has no teacher. Leave --teacher out.")

    def narrowed(self: TaskT) -> TaskT:
        """The same, declared in JAX's 64-bit mode, for the 32-bit mode."""
        return self

    def changed(self: TaskT, overrides: Sequence[str]) -> TaskT:
        """The same with some of its numbers replaced.

        Args:
            overrides: texts `path=value`, as in `training.steps=500` or `algorithm.chain.length=2`.

        Raises:
            RecipeError: where one does not fit.
        """
        return override(self, tuple(overrides))

    def with_training(self: TaskT, training: Training) -> TaskT:
        """The same, trained by other numbers."""
        return dataclasses.replace(self, training=training)  # type: ignore[type-var]  # each kind is a dataclass

    def check_numbers(self) -> None:
        """See that each of its numbers is of its declared type.

        Raises:
            RecipeError: where one is not.
        """
        for name in self.numbers:
            check_fields(getattr(self, name), name)

    def recorded(self) -> dict[str, object]:
        """Its numbers, as JSON data."""
        return {name: as_data(getattr(self, name)) for name in self.numbers}

    def refuse_command(self, command: str, name: str, place: Path | None) -> None:
        """See that it is trained by the command that is its own.

        Raises:
            RecipeError: where another is.
        """
        if command != self.command:
            raise RecipeError(
                f"{name} is {self.words}, which `pplemd {command}` does not train. Train it: pplemd {self.command} "
                f"{shlex.quote(str(place or name))}"
            )


def kinds_of_tasks() -> tuple[type[AbstractTask], ...]:
    """The kinds of tasks that a file may declare, those that only support others last."""
    return tuple(sorted(AbstractTask.__subclasses__(), key=lambda kind: kind.supporting))


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """What a result is judged by in place of what its task says.

    Attributes:
        seed: seed of the samples or chains.
        features: the weights of a classifier, as `em.features` reads them.
        data: images, as `em.data.npz` reads them.
    """

    seed: int = 0
    features: Path | None = None
    data: Path | None = None


@dataclasses.dataclass(frozen=True)
class AbstractReport:
    """What a run ends with: the figures of evaluation.json."""

    def figures(self) -> dict[str, object]:
        """As JSON data."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class DrawOptions:
    """What to draw of a result, and where to write it.

    Attributes:
        target: the file: .png, .npz or .nc.
        count: how many; None for as many as is usual.
        label: one class for all of them.
        seed: seed of everything random.
        correct: 1 to resample by importance weights, 2 by unreliable ones, too.
        side_by_side: whether to draw the teacher's samples beside them.
    """

    target: Path
    count: int | None = None
    label: int | None = None
    seed: int = 0
    correct: int = 0
    side_by_side: bool = False


@dataclasses.dataclass(frozen=True)
class Written:
    """What was drawn.

    Attributes:
        figures: for programs.
        line: for people.
    """

    figures: dict[str, float | int]
    line: str


@dataclasses.dataclass(frozen=True)
class ChainOptions:
    """What long chains a diagnosis runs.

    Attributes:
        sigmas: noise levels, in data units; none for four that training draws. Of a distillation alone.
        chains: how many, at each sigma.
        draws: kept draws of each chain.
        warm_up: draws before them, which find step sizes and are thrown away.
        label: the class, for a program with classes; by default the likeliest of its label prior.
        kernel: the transition; None for the task's own. Step sizes that it lacks are found in warm-up.
        seed: seed of everything random.
    """

    sigmas: tuple[float, ...] = ()
    chains: int = 4
    draws: int = 500
    warm_up: int = 500
    label: int | None = None
    kernel: AbstractKernel | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not all(0 < sigma < float("inf") for sigma in self.sigmas) or len(set(self.sigmas)) < len(self.sigmas):
            raise RecipeError(
                f"found the sigmas {list(self.sigmas)}; expected positive, finite noise levels in data units, each "
                "once. Leave --sigma out for four that training draws."
            )
        if self.chains < 2 or self.draws < 4 or self.warm_up < 0:
            raise RecipeError(
                f"found {self.chains} chains of {self.draws} draws after {self.warm_up}; expected at least 2 chains of "
                "4 draws, which R-hat compares. Leave --chains, --draws and --warm-up out for 4 of 500 after 500."
            )


@dataclasses.dataclass(frozen=True)
class AbstractDiagnosis(ABC):
    """A run whose chains were judged.

    Attributes:
        step: step of the checkpoint.
        kernel: the transition, as JSON data.
        rows: ArviZ's figures, by site and, of a distillation, sigma.
        findings: what is wrong, the most serious first.
        folder: where chains.nc, diagnosis.json and the pictures lie.
    """

    step: int
    kernel: dict[str, object]
    rows: list[Row]
    findings: list[Finding]
    folder: Path

    @abstractmethod
    def lines(self) -> list[str]:
        """What is said of the chains' coordinates, for people."""

    @property
    def of(self) -> str:
        """Of which distribution the chains are, for the title of the table; empty where there is one."""
        return ""

    def figures(self) -> dict[str, object]:
        """As JSON data, its folder left out."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "folder"}


Judge = Callable[[ResultT, EvaluationOptions, History, AbstractReporter, AbstractReport | None], AbstractReport]
Drawings = Mapping[str, Callable[[], dict[str, object]]]  # what a report draws: titles, and what draws it
Glance = Callable[[ResultT, PRNGKeyArray], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Work(Generic[ResultT]):
    """A task put together: everything that the loop needs, and what judges what it learns.

    Attributes:
        step: the step of its algorithm.
        initial: builds the state before the first step.
        key: the run's key.
        result: what a state has learned: a generator, a fitted program, a teacher.
        picture: a picture of a result; None where there is nothing to see.
        glance: figures of a result's samples while it is trained; None for none.
        judge: the plan's, with what was made ready for it; None where it was only planned.
        rows: that a likelihood has, where figures are of one of them.
    """

    step: Step
    initial: Callable[[], TrainState]
    key: PRNGKeyArray
    result: Callable[[TrainState], ResultT]
    picture: Callable[[ResultT], Image.Image | None] = lambda result: None
    glance: Glance[ResultT] | None = None
    judge: Judge[ResultT] | None = None
    rows: int = 1

    @property
    def training(self) -> Training:
        """Its numbers."""
        return self.step.context.training

    def window(self) -> Window:
        """What a checkpoint holds before the first step."""
        return first_window(self.step, self.initial(), self.key)

    def train(
        self,
        watcher: Watcher,
        checkpoints: Checkpoints | None = None,
        devices: Devices = ONE,
        rhythm: Training | None = None,
    ) -> TrainState:
        """Train to the end, from the newest checkpoint where there is one; on several devices, or one.

        Args:
            watcher: what is called while it trains.
            checkpoints: where to save, and to go on from.
            devices: what to run on.
            rhythm: of lines, pictures and checkpoints, where it is another than the task's own.
        """
        context, algorithm = self.step.context, self.step.algorithm
        every = algorithm.adjusts_every(context)

        def decide(step: int, state: TrainState) -> tuple[TrainState, dict[str, float]]:
            return algorithm.adjust(context, named(self.key, "reparameterization", step), state)

        adjustment = None if every is None else Adjustment(every, decide)
        numbers = rhythm or self.training
        return fit(self.step, self.initial(), self.key, numbers, watcher, checkpoints, devices, adjustment)


@dataclasses.dataclass(frozen=True)
class AbstractPlan(ABC, Generic[ResultT]):
    """A task traced: shapes and types of everything, no array yet.

    Attributes:
        problem: the traced program; None of a network alone.
    """

    problem: Problem | None

    @property
    @abstractmethod
    def task(self) -> AbstractTask:
        """What was declared."""

    @abstractmethod
    def shapes_of(self, function: Callable[[Work[ResultT]], ShapesT]) -> ShapesT:
        """What a function gives of the work put together, as shapes; neither teacher nor data need be there."""

    @abstractmethod
    def build(self, reporter: AbstractReporter, devices: Devices) -> Work[ResultT]:
        """Put it together: get the teacher ready, draw what its algorithm needs beforehand."""

    @abstractmethod
    def result(self, state: TrainState) -> ResultT:
        """What a state of its training has learned."""

    @abstractmethod
    def described(self) -> dict[str, object]:
        """What `pplemd inspect` says of it alone, as JSON data."""

    def devices(self, mesh: str | None) -> Devices:
        """What it runs on.

        Raises:
            DeviceError: where the devices cannot be used.
        """
        if mesh is not None:
            raise DeviceError(f"--mesh {mesh}: {self.task.words} runs on one device. Leave --mesh out.")
        return ONE

    @abstractmethod
    def judge(
        self,
        result: ResultT,
        options: EvaluationOptions,
        history: History,
        reporter: AbstractReporter,
        known: AbstractReport | None,
    ) -> AbstractReport:
        """How good a result is.

        Args:
            result: what to judge.
            options: the seed, and what it is judged by in place of what its task says.
            history: lines of its metrics.jsonl.
            reporter: what shows how it goes.
            known: the report of another run of this task, judged by the same draws, whose teacher's figures need not
                be found again; None for none.
        """

    @abstractmethod
    def draw(self, result: ResultT, step: int, options: DrawOptions, reporter: AbstractReporter) -> Written:
        """Draw of a result, and write it."""

    @abstractmethod
    def diagnose(
        self, state: TrainState, options: ChainOptions, folder: Path, reporter: AbstractReporter
    ) -> AbstractDiagnosis:
        """Run long chains of what its E-step samples, judge them, and keep all in a folder."""

    def report_data(
        self, state: TrainState, note: Callable[[str], None]
    ) -> Mapping[str, Callable[[], dict[str, object]]]:
        """What a report draws of a state, each thing for itself: what it is, and what draws it."""
        return {}


class Diagnostics(eqx.Module):
    """What a fit is judged by: long chains of its latents' posterior, and an estimate of log p(y).

    Attributes:
        kernel: of the chains; a step size that it lacks is found in their warm-up.
        chains: how many, from where draws of the prior climb to.
        warm_up: transitions of each before its draws.
        draws: kept draws of each.
        rows: rows whose posteriors are looked at, where a step looks at some rows; evenly spread.
        marginal: draws of the estimate of log p(y).
    """

    kernel: AbstractKernel = NUTS()
    chains: int = 4
    warm_up: int = 300
    draws: int = 500
    rows: int = 16
    marginal: int = 2000

    def __check_init__(self):
        if self.chains < 2 or self.warm_up < 20 or self.draws < 4 or self.rows < 1 or self.marginal < 2:
            raise RecipeError(
                "diagnostics need chains >= 2, warm_up >= 20, draws >= 4, rows >= 1 and marginal >= 2; found "
                f"chains={self.chains}, warm_up={self.warm_up}, draws={self.draws}, rows={self.rows}, "
                f"marginal={self.marginal}."
            )
