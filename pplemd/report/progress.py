"""Reporters: how a long piece of work goes, shown to people by a bar with time left, or to nobody."""

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from pplemd.storage.folder import harmless


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
    """Who gets to know what happens, while it happens."""

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
        """The time of a `with` block goes by before there is any work; nothing is shown, unless a reporter does."""
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
    """Shows nothing."""

    def say(self, sentence: str) -> None:
        """Nothing."""

    @contextmanager
    def progress(self, title: str, total: int | float, shown: tuple[str, ...] = ()) -> Iterator[AbstractProgress]:
        """Work that nobody follows."""
        yield SilentProgress()


QUIET_SECONDS = 10.0  # between lines where there is no terminal
PATIENCE_SECONDS = 2.0  # of preparation, or of any other phase, before a line says that it is going on
FIRST_PHASE = "getting ready"


class Terminal(AbstractReporter):
    """Shows people, on standard error, how it goes; a bar where that is a terminal (or a notebook), else lines."""

    def say(self, sentence: str) -> None:
        """A line."""
        _print(sentence)

    @contextmanager
    def preparing(self, what: str) -> Iterator[None]:
        """A bar without an end, or lines."""
        with self.progress("start", 1.0) as task:
            task.phase(what)
            yield

    @contextmanager
    def progress(self, title: str, total: int | float, shown: tuple[str, ...] = ()) -> Iterator[AbstractProgress]:
        """A bar, or lines."""
        console = Console(stderr=True)
        if console.is_terminal or console.is_jupyter:
            with Progress(*_columns(), console=console, refresh_per_second=4) as progress:
                yield _Bar(progress, title, total, shown)
            return
        lines = _Lines(title, total, shown)
        try:
            yield lines
        finally:
            lines.close()


def _columns() -> tuple:
    """Only the figures give way where the terminal is narrow."""

    def fixed() -> Column:
        return Column(no_wrap=True)

    return (
        TextColumn("{task.description:<8}", table_column=fixed()),
        BarColumn(bar_width=20, table_column=fixed()),
        TextColumn("{task.fields[done]}", table_column=fixed()),
        TimeElapsedColumn(table_column=fixed()),
        _Left(table_column=fixed()),
        _Shown(),
    )


class _Left(ProgressColumn):
    """The time left, where there is something to estimate it from."""

    max_refresh = 0.5  # seconds: a figure that changes faster is not read

    def render(self, task: Task) -> Text:
        known = task.total is not None and not task.fields["phase"].text()
        left = task.time_remaining if known else None
        return Text("" if left is None else f"{_clock(left)} left")


class _Shown(ProgressColumn):
    """What is done where it is no share of the work, or the figures, on one line."""

    def render(self, task: Task) -> Text:
        shown = task.fields["phase"].text() or task.fields["figures"]
        return Text(shown, style="dim", no_wrap=True, overflow="ellipsis")


class _Phase:
    """What is under way meanwhile, since when, and how long it took the last time."""

    def __init__(self) -> None:
        self._what, self._since = FIRST_PHASE, time.monotonic()
        self._took: dict[str, float] = {}

    def begin(self, what: str) -> None:
        """It is this now."""
        self.end()
        self._what, self._since = what, time.monotonic()

    def end(self) -> None:
        """It is over, and the work itself goes on."""
        if self._what:
            self._took[self._what] = time.monotonic() - self._since
        self._what = ""

    def announced(self) -> str:
        """In words; "" where there is none."""
        took = self._took.get(self._what)
        return self._what if took is None else f"{self._what}, about {_clock(took)}"

    def text(self) -> str:
        """In words, with its time until now; "" where there is none."""
        if not self._what:
            return ""
        took = self._took.get(self._what)
        usually = "" if took is None else f" of about {_clock(took)}"
        return f"{self._what}, {_clock(time.monotonic() - self._since)}{usually}"


class _Bar(AbstractProgress):
    """A line of a terminal that is written over.

    Args:
        progress: the display.
        title: what is done.
        total: where it ends.
        shown: which figures to show.
    """

    def __init__(self, progress: Progress, title: str, total: int | float, shown: tuple[str, ...]):
        self._progress, self._total, self._shown = progress, total, shown
        self._phase = _Phase()
        self._task: TaskID = progress.add_task(harmless(title), total=None, done="", figures="", phase=self._phase)
        self._started = False

    def to(self, done: int | float) -> None:
        self._phase.end()
        if not self._started:  # the clock starts after the first step, which compiles; a resumed run starts further on
            self._progress.reset(
                self._task, total=self._total, completed=int(done), done="", figures="", phase=self._phase
            )
            self._started = True
        self._progress.update(self._task, completed=done, done=_done(done, self._total))

    def show(self, figures: dict[str, float]) -> None:
        self._progress.update(self._task, figures=_figures(figures, self._shown))

    def phase(self, what: str) -> None:
        self._phase.begin(harmless(what))


class _Lines(AbstractProgress):
    """A line every ten seconds, for logs.

    Args:
        title: what is done.
        total: where it ends.
        shown: which figures to show.
    """

    def __init__(self, title: str, total: int | float, shown: tuple[str, ...]):
        self._title, self._total, self._shown = title, total, shown
        self._began, self._first, self._said = 0.0, 0.0, 0.0
        self._figures = ""
        self._phase, self._turn = _Phase(), 0
        self._preparing = self._wait(PATIENCE_SECONDS, self._phase.announced, self._turn)

    def to(self, done: int | float) -> None:
        now = time.monotonic()
        self.close()
        self._phase.end()
        if not self._began:
            self._began, self._first, self._said = now, done, now
        elif now - self._said > QUIET_SECONDS:
            self._said = now
            self._print(f"{_done(done, self._total)}, {_clock(self._left(done, now))} left  {self._figures}".rstrip())

    def show(self, figures: dict[str, float]) -> None:
        self._figures = _figures(figures, self._shown)

    def phase(self, what: str) -> None:
        self.close()
        self._phase.begin(what)
        self._preparing = self._wait(PATIENCE_SECONDS, self._phase.announced, self._turn)

    def close(self) -> None:
        """No more lines of a phase."""
        self._turn += 1
        self._preparing.cancel()

    def _wait(self, seconds: float, text: Callable[[], str], turn: int) -> threading.Timer:
        """Show the phase in so long, and now and then while it lasts."""

        def say() -> None:
            sentence = text()
            if turn == self._turn and sentence:
                self._print(sentence)
                self._preparing = self._wait(QUIET_SECONDS, self._phase.text, turn)

        waiting = threading.Timer(seconds, say)
        waiting.daemon = True
        waiting.start()
        return waiting

    def _left(self, done: int | float, now: float) -> float:
        return (now - self._began) * (self._total - done) / max(done - self._first, 1e-9)

    def _print(self, sentence: str) -> None:
        _print(f"{self._title}: {sentence}")


def _print(sentence: str) -> None:
    """A line on standard error; nothing where nobody listens any more."""
    with suppress(BrokenPipeError):
        print(harmless(sentence), file=sys.stderr, flush=True)


def _done(done: int | float, total: int | float) -> str:
    """Steps of steps, or a percentage."""
    return f"{100 * done:.0f} %" if total == 1 else f"{done:,.0f} of {total:,.0f}"


def _figures(figures: dict[str, float], shown: tuple[str, ...]) -> str:
    return "  ".join(f"{name.replace('_', ' ')} {figures[name]:.3g}" for name in shown if name in figures)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
