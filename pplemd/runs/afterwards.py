"""After the training: whatever ends the judging of a run says that the run is saved, and how it is judged later."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def saved_in(folder: Path) -> Iterator[None]:
    """In a `with` block, an error or a stop gets a note that the training is done, which its message ends with.

    Args:
        folder: the run.
    """
    try:
        yield
    except BaseException as end:
        end.add_note(f"The training is done and saved in {folder}; judge it at any time by\n    {command(folder)}")
        raise


def command(folder: Path) -> str:
    """What judges a run, for a shell."""
    return f"pplemd evaluate {shlex.quote(str(folder))}"
