"""Being asked to stop: the signals that a training waits for, and what it raises once it is saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupted(Exception):  # noqa: N818
    """The loop was asked to stop; its state is saved, where there are checkpoints.

    Attributes:
        step: the last step done.
        signal: the signal's number.
        saved: whether the state is saved.
    """

    def __init__(self, step: int, signal_number: int, *, saved: bool = True):
        super().__init__(f"stopped after step {step} by {signal.Signals(signal_number).name}")
        self.step, self.signal, self.saved = step, signal_number, saved


@contextmanager
def listening() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM; a second one of either acts as it did before."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        restore()

    if threading.current_thread() is not threading.main_thread():  # signals are somebody else's business there
        yield received
        return
    try:
        for number in before:
            signal.signal(number, receive)
        yield received
    finally:
        restore()
