"""The contract of a method: how a generator learns from its teacher and its score network."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import equinox as eqx
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from pplemd.dsl import Problem, Program
from pplemd.learning.labels import Labels
from pplemd.teachers import AbstractDenoiser, AbstractTeacher

ResultT = TypeVar("ResultT", bound=PyTree)
Loss = tuple[Float[Array, ""], dict[str, Float[Array, ""]]]  # and its figures


class Noised(eqx.Module):
    """Fresh latents, and the noise that takes x = g(z) to x_sigma = x + sigma eps.

    Attributes:
        latents: base coordinates by site.
        noise: eps, in x's shape.
        sigma: noise levels, in data units.
        labels: classes, or None.
    """

    latents: dict[str, Float[Array, "batch ..."]]
    noise: Float[Array, "batch ..."]
    sigma: Float[Array, " batch"]
    labels: Int[Array, " batch"] | None


class Moment(eqx.Module):
    """Where the training is: what a method looks at, and leaves alone.

    Attributes:
        program: the student.
        score: its score network, already updated in this step.
        memory: what the method keeps from step to step.
        progress: share of the training that is done.
        tuning: what the chains of an E-step are tuned by.
    """

    program: Program
    score: AbstractDenoiser
    memory: PyTree
    progress: Float[Array, ""]
    tuning: Any = None


class AbstractScene(eqx.Module):
    """What a method may ask for: the problem, its teacher, and draws under the recipe.

    Attributes:
        problem: the traced program.
        teacher: the prior q.
        labels: the label prior, or None.
        pool: what the method drew before the first step, or None.
    """

    if TYPE_CHECKING:  # mypy takes an AbstractVar for a field, which no property may implement

        @property
        def problem(self) -> Problem: ...  # noqa: D102
        @property
        def teacher(self) -> AbstractTeacher: ...  # noqa: D102
        @property
        def labels(self) -> Labels | None: ...  # noqa: D102
        @property
        def pool(self) -> Any: ...  # noqa: D102
    else:
        problem: eqx.AbstractVar[Problem]
        teacher: eqx.AbstractVar[AbstractTeacher]
        labels: eqx.AbstractVar[Labels | None]
        pool: eqx.AbstractVar[Any]

    @property
    @abstractmethod
    def batch(self) -> int:
        """Samples of one step."""

    @abstractmethod
    def weight(self, sigma: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """v(sigma), the recipe's weight of the generator's loss."""

    @abstractmethod
    def each(self, function: Callable[..., ResultT], *rows: Any) -> ResultT:
        """`jax.vmap(function)(*rows)`, as the recipe computes: nothing in it draws at random."""

    @abstractmethod
    def noised(self, program: Program, key: PRNGKeyArray, progress: Float[Array, ""]) -> Noised:
        """Fresh latents, and noise of the recipe's levels."""

    @abstractmethod
    def chains(self, moment: Moment, key: PRNGKeyArray) -> Any:
        """The ends of the recipe's chains: the E-step of EM distillation."""

    @abstractmethod
    def m_step(self, program: Program, batch: Any) -> Loss:
        """The M-step's loss of what `chains` gave."""


class AbstractMethod(eqx.Module):
    """How a generator learns: what is drawn without a gradient, then a loss of the program.

    Program, teacher, score network and its training, optimisers, anchor, average and loop are the recipe's, whatever
    the method.

    Attributes:
        chains: whether it runs the recipe's chain, whose step sizes and coordinates may then be adapted.
        learns_score: whether it asks the student's score network; else that one is not trained.
    """

    chains: eqx.AbstractClassVar[bool]
    learns_score: eqx.AbstractClassVar[bool]

    @abstractmethod
    def prelude(self) -> str | None:
        """What it draws before the first step, in words; None for nothing."""

    @abstractmethod
    def prepare(
        self, key: PRNGKeyArray, teacher: AbstractTeacher, labels: Labels | None, advance: Callable[[float], None]
    ) -> Any:
        """Draw it; None for nothing. `advance` is told which share is done."""

    @abstractmethod
    def begin(self, program: Program) -> PyTree:
        """What it keeps from step to step, before the first; None for nothing."""

    @abstractmethod
    def remember(self, memory: PyTree, program: Program) -> PyTree:
        """What it keeps, after an update of the program."""

    @abstractmethod
    def draw(self, scene: AbstractScene, moment: Moment, key: PRNGKeyArray) -> Any:
        """Everything random of one step, and what needs no gradient."""

    @abstractmethod
    def loss(self, program: Program, scene: AbstractScene, moment: Moment, drawn: Any) -> Loss:
        """The loss, differentiated in `program` alone, and figures of it; `pull` is among them.

        `pull` is the mean square of how far samples are drawn, in data units where the method says so.
        """


class AbstractPlain(AbstractMethod):
    """A method that draws nothing beforehand and keeps nothing from step to step."""

    def prelude(self) -> str | None:
        """Nothing."""
        return None

    def prepare(
        self, key: PRNGKeyArray, teacher: AbstractTeacher, labels: Labels | None, advance: Callable[[float], None]
    ) -> Any:
        """Nothing."""
        return None

    def begin(self, program: Program) -> PyTree:
        """Nothing."""
        return None

    def remember(self, memory: PyTree, program: Program) -> PyTree:
        """Nothing."""
        return None
