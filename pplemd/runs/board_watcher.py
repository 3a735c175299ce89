"""A training told to a board beside its folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from pplemd.learning import Onlookers, Watcher
from pplemd.report.tensorboard import AbstractBoard


@contextmanager
def with_board(watcher: Watcher, board: AbstractBoard, samples: Path) -> Iterator[Watcher]:
    """The same watcher, which tells the board too; it is closed however the training ends.

    Args:
        watcher: what the loop tells.
        board: told its figures and pictures.
        samples: the picture that the watcher draws.
    """
    onlookers, reached = Onlookers(watcher.note), 0

    def begin(step: int) -> None:
        nonlocal reached
        reached = step
        watcher.begin(step)
        board.begin(step)

    def report(step: int, figures: dict[str, float]) -> None:
        nonlocal reached
        reached = step
        look(step, board.figures, step, figures)
        watcher.report(step, figures | onlookers.failed())

    def picture(step: int, state: Any) -> None:
        watcher.picture(step, state)
        if samples.is_file():  # a fit may generate nothing
            with Image.open(samples) as image:
                look(step, board.picture, step, image)

    def look(step: int, call: Callable[..., None], *values: Any) -> None:
        onlookers.look("TensorBoard file", step, call, *values, otherwise=None)

    try:
        yield Watcher(watcher.advance, report, picture, watcher.note, begin, watcher.inspect, watcher.phase)
    finally:
        look(reached, board.close)
