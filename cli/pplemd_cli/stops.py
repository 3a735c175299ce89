"""Being stopped: Ctrl-C and SIGTERM end a command cleanly, with a word and an exit code."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer

OFFSET = 128  # of the exit code of a process that a signal stopped: 130 for Ctrl-C, 143 for SIGTERM


class Stop(BaseException):
    """A signal asked the command to stop.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def _receive(number: int, frame: FrameType | None) -> NoReturn:
    raise Stop(number)


def listen() -> None:
    """From now on both signals raise Stop, wherever the command is; the training loop takes them itself meanwhile."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _receive)


@contextmanager
def saved(hint: str) -> Iterator[None]:
    """In a `with` block, a training that was stopped and saved ends the command with a hint how to go on.

    Args:
        hint: what to do to go on.
    """
    from pplemd.learning import Interrupted
    from pplemd.storage.folder import harmless

    try:
        yield
    except Interrupted as stop:
        kept = f"it is saved. {hint}" if stop.saved else "nothing of it is kept, since it had no place for checkpoints."
        print(harmless(f"{stop}; {kept}"), file=sys.stderr)
        raise typer.Exit(OFFSET + stop.signal) from stop
