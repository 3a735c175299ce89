"""Where the figures of a training go besides its folder: nowhere, or to TensorBoard's files (extra `tensorboard`)."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pplemd.errors import DataError

GROUPED = ("run_", "parameter_", "lambda_", "kappa_", "cost_")  # names that begin so are one group of the board


class AbstractBoard(ABC):
    """Who gets the figures and pictures of a training."""

    @abstractmethod
    def begin(self, step: int) -> None:
        """Go on after a step: what was written after it is void."""

    @abstractmethod
    def figures(self, step: int, figures: dict[str, float]) -> None:
        """The figures of a step."""

    @abstractmethod
    def picture(self, step: int, image: Image.Image) -> None:
        """The samples of a step."""

    @abstractmethod
    def close(self) -> None:
        """Nothing more comes."""


class NoBoard(AbstractBoard):
    """Keeps nothing."""

    def begin(self, step: int) -> None:
        """Nothing."""

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """Nothing."""

    def picture(self, step: int, image: Image.Image) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class TensorBoard(AbstractBoard):
    """Writes TensorBoard's event files, by tensorboardX; `tensorboard --logdir runs` shows them.

    Args:
        folder: where they go; each start of a run adds a file.

    Raises:
        DataError: where tensorboardX is not installed, or the folder cannot be written.
    """

    def __init__(self, folder: Path):
        try:
            import tensorboardX
        except ImportError as error:
            raise DataError(
                "--tensorboard needs tensorboardX, which is not installed: pip install 'pplemd[tensorboard]', or leave "
                "the option out; metrics.jsonl has the same figures."
            ) from error
        self._make, self._folder = tensorboardX.SummaryWriter, folder
        self._writer: Any = None

    def begin(self, step: int) -> None:
        """Start a file that voids what others have after the step."""
        try:
            self._writer = self._make(str(self._folder), purge_step=step + 1)
        except OSError as error:
            raise DataError(
                f"{self._folder} cannot be written ({error}). Choose another run folder by --out."
            ) from error

    def figures(self, step: int, figures: dict[str, float]) -> None:
        """A scalar for each figure."""
        for name, value in figures.items():
            begin = next((begin for begin in GROUPED if name.startswith(begin)), None)
            tag = name if begin is None else f"{begin[:-1]}/{name.removeprefix(begin)}"
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def picture(self, step: int, image: Image.Image) -> None:
        """An image."""
        self._writer.add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()


def board_of(folder: Path, wanted: bool) -> AbstractBoard:
    """TensorBoard's files in a run's folder where they are wanted."""
    return TensorBoard(folder / "tensorboard") if wanted else NoBoard()
