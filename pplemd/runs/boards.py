"""A training told to a board beside its folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from pplemd.learning import Watcher
from pplemd.viewing.board import AbstractBoard


@contextmanager
def with_board(watcher: Watcher, board: AbstractBoard, samples: Path) -> Iterator[Watcher]:
    """The same watcher, which tells the board too; it is closed however the training ends.

    Args:
        watcher: what the loop tells.
        board: told its figures and pictures.
        samples: the picture that the watcher draws.
    """

    def begin(step: int) -> None:
        watcher.begin(step)
        board.begin(step)

    def report(step: int, figures: dict[str, float]) -> None:
        watcher.report(step, figures)
        board.figures(step, figures)

    def picture(step: int, state: Any) -> None:
        watcher.picture(step, state)
        if samples.is_file():  # a fit may generate nothing
            with Image.open(samples) as image:
                board.picture(step, image)

    try:
        yield Watcher(watcher.advance, report, picture, watcher.note, begin, watcher.inspect)
    finally:
        board.close()
