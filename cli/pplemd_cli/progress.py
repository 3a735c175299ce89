"""Progress for people: a bar with time left on a terminal, a line now and then elsewhere; always on standard error."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

QUIET_SECONDS = 10.0  # between lines where there is no terminal


class Bar:
    """One task's progress.

    Args:
        progress: the terminal's display, or None where there is no terminal.
        title: what is being done.
        total: steps in all.
    """

    def __init__(self, progress: Progress | None, title: str, total: float):
        self._progress, self._title, self._total = progress, title, total
        self._task = None if progress is None else progress.add_task(title, total=total, figures="")
        self._began, self._first, self._said = time.monotonic(), 0.0, time.monotonic()
        self._figures = ""

    def to(self, done: float) -> None:
        """So much is done, in all."""
        if self._first == 0.0:
            self._began, self._first = time.monotonic(), done  # a resumed run's first step is not its own work
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)
        elif time.monotonic() - self._said > QUIET_SECONDS:
            self._said = time.monotonic()
            self._line(done)

    def show(self, figures: dict[str, float], names: tuple[str, ...]) -> None:
        """A few figures beside the bar."""
        self._figures = "  ".join(f"{name} {figures[name]:.4g}" for name in names if name in figures)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, figures=self._figures)

    def _line(self, done: float) -> None:
        share = max(done - self._first, 1e-9) / max(self._total - self._first, 1e-9)
        left = (time.monotonic() - self._began) * (1 - share) / share
        print(f"{self._title}: {done:.6g} of {self._total:.6g}, {_clock(left)} left  {self._figures}", file=sys.stderr)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@contextmanager
def bar(title: str, total: float) -> Iterator[Bar]:
    """A progress bar for the time of a `with` block."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Bar(None, title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[figures]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        yield Bar(progress, title, total)


def say(sentence: str) -> None:
    """A sentence for people, on standard error."""
    print(sentence, file=sys.stderr)
