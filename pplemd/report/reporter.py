"""Who is told how a long piece of work goes: people on a terminal, or nobody."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class AbstractProgress(ABC):
    """One piece of work with a known end."""

    @abstractmethod
    def to(self, done: int | float) -> None:
        """So much is done, in all. Time is measured from the first call: what came before was preparation."""

    @abstractmethod
    def show(self, figures: dict[str, float]) -> None:
        """The latest figures of the work."""

    @abstractmethod
    def phase(self, what: str) -> None:
        """From now on until the next `to` or `phase` the work is something of which no share is known: compilation."""


class AbstractReporter(ABC):
    """Told what happens, while it happens."""

    @abstractmethod
    def say(self, sentence: str) -> None:
        """A sentence for the user."""

    @abstractmethod
    def progress(
        self, title: str, total: int | float, shown: tuple[str, ...] = ()
    ) -> AbstractContextManager[AbstractProgress]:
        """The time of a `with` block is one piece of work.

        Args:
            title: what is done.
            total: what `to` is called with at the end: a number of steps, or 1 for shares.
            shown: which of the figures to show.
        """

    def preparing(self, what: str) -> AbstractContextManager[object]:
        """The time of a `with` block goes by before there is any work; nobody is told, unless a reporter says it."""
        return nullcontext()


class SilentProgress(AbstractProgress):
    """A piece of work that nobody follows."""

    def to(self, done: int | float) -> None:
        """Nothing."""

    def show(self, figures: dict[str, float]) -> None:
        """Nothing."""

    def phase(self, what: str) -> None:
        """Nothing."""


class Silent(AbstractReporter):
    """Tells nobody."""

    def say(self, sentence: str) -> None:
        """Nothing."""

    @contextmanager
    def progress(self, title: str, total: int | float, shown: tuple[str, ...] = ()) -> Iterator[AbstractProgress]:
        """Work that nobody follows."""
        yield SilentProgress()
