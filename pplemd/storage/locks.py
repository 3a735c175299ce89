"""Who writes in a folder: a lock that the system lets go of when a process ends, however it ends."""

import time
from pathlib import Path
from typing import IO

from pplemd.errors import CheckpointError
from pplemd.storage.folder import unwritable

try:
    import fcntl
except ImportError:  # Windows: two processes in one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

PROBE_SECONDS = 0.1  # longer than a process has a lock that it only tries


def is_written_to(folder: Path) -> bool | None:
    """Whether a process has a folder of checkpoints open for writing; None where that is unknown.

    A lock is taken and let go at once, where it is free.
    """
    if fcntl is None:
        return None
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False


def locked(folder: Path) -> IO[bytes]:
    """An open file that no other process can lock; the system lets go of it when this process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("ab")
    except OSError as error:
        raise CheckpointError(unwritable(folder, error)) from error
    try:
        _lock(file)
    except BlockingIOError as error:
        file.close()
        raise CheckpointError(
            f"another process is writing to {folder}. Wait for it, stop it, or choose another folder by --out."
        ) from error
    except OSError:  # a file system without locks
        pass
    return file


def _lock(file: IO[bytes]) -> None:
    """Lock a file; tried twice, since who only looks (`is_written_to`) has it for a moment."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(PROBE_SECONDS)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
