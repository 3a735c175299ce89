"""Following a run that another process makes, on a terminal."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from pplemd.report.terminal import Standing, State, line, look, shown

EVERY_SECONDS = 1.0  # between looks: a file of some kilobytes is read each time
SURE = 3  # looks in a row that find a run stopped: one that starts takes its lock a moment after its folder is there
OTHER_LINES = 12  # of the display besides the figures


def watch(
    path: Path | str, *, once: bool = False, every: float = EVERY_SECONDS, console: Console | None = None
) -> State:
    """Show a run until it ends.

    Args:
        path: its folder.
        once: show how it stands now, and no more.
        every: seconds between looks.
        console: where to; by default standard output. Where that is no terminal, a line for each new line of its
            metrics.

    Returns:
        What it was doing last.

    Raises:
        CheckpointError: where the folder is no run.
    """
    screen = console or Console(highlight=False)
    first = newest = look(path)
    if once:
        screen.print(_shown(first, screen))
    elif screen.is_terminal:
        with Live(_shown(first, screen), console=screen, auto_refresh=False) as live:
            for newest in _looks(path, first, every):
                live.update(_shown(newest, screen), refresh=True)
    else:
        said = None
        for newest in _looks(path, first, every):
            if said != (newest.run_record.step, newest.state):
                said = (newest.run_record.step, newest.state)
                print(line(newest), file=screen.file, flush=True)
    return newest.state


def _looks(path: Path | str, standing: Standing, every: float) -> Iterator[Standing]:
    """Look again and again, until the run has ended."""
    stopped = 0
    while True:
        yield standing
        stopped = stopped + 1 if standing.state is State.stopped else 0
        if standing.state is State.finished or stopped >= SURE:
            return
        time.sleep(every)
        standing = look(path, standing)


def _shown(standing: Standing, screen: Console) -> RenderableType:
    rows = max(screen.size.height - OTHER_LINES, 4) if screen.is_terminal else 100
    return shown(standing, rows=rows, plain="utf" not in (screen.encoding or sys.getdefaultencoding()))
