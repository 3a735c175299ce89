"""Progress for people, on standard error: a bar with time left on a terminal, a line now and then elsewhere."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from pplemd.viewing.harmless import harmless
from pplemd.viewing.narration import AbstractNarrator, AbstractTask

QUIET_SECONDS = 10.0  # between lines where there is no terminal
PATIENCE_SECONDS = 2.0  # of preparation before a line says that it is going on


class Terminal(AbstractNarrator):
    """Tells people on standard error; a bar where that is a terminal (or a notebook), else lines."""

    def say(self, sentence: str) -> None:
        """A line."""
        _print(sentence)

    @contextmanager
    def task(self, title: str, total: int | float, shown: tuple[str, ...] = ()) -> Iterator[AbstractTask]:
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
        left = None if task.total is None else task.time_remaining
        return Text("" if left is None else f"{_clock(left)} left")


class _Shown(ProgressColumn):
    """The figures, on one line."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["figures"], style="dim", no_wrap=True, overflow="ellipsis")


class _Bar(AbstractTask):
    """A line of a terminal that is written over.

    Args:
        progress: the display.
        title: what is done.
        total: where it ends.
        shown: which figures to show.
    """

    def __init__(self, progress: Progress, title: str, total: int | float, shown: tuple[str, ...]):
        self._progress, self._total, self._shown = progress, total, shown
        self._task: TaskID = progress.add_task(title, total=None, done="", figures="getting ready")
        self._started = False

    def to(self, done: int | float) -> None:
        if not self._started:  # the clock starts after the first step, which compiles; a resumed run starts further on
            self._progress.reset(self._task, total=self._total, completed=int(done), done="", figures="")
            self._started = True
        self._progress.update(self._task, completed=done, done=_done(done, self._total))

    def show(self, figures: dict[str, float]) -> None:
        self._progress.update(self._task, figures=_figures(figures, self._shown))


class _Lines(AbstractTask):
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
        self._preparing = threading.Timer(PATIENCE_SECONDS, self._print, ("getting ready",))
        self._preparing.daemon = True
        self._preparing.start()

    def to(self, done: int | float) -> None:
        now = time.monotonic()
        if not self._began:
            self._preparing.cancel()
            self._began, self._first, self._said = now, done, now
        elif now - self._said > QUIET_SECONDS:
            self._said = now
            self._print(f"{_done(done, self._total)}, {_clock(self._left(done, now))} left  {self._figures}".rstrip())

    def show(self, figures: dict[str, float]) -> None:
        self._figures = _figures(figures, self._shown)

    def close(self) -> None:
        """No more lines."""
        self._preparing.cancel()

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
