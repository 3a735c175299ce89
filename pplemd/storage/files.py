"""Files written whole or not at all."""

import os
from pathlib import Path


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file: a hidden neighbour, flushed to the disk, then renamed; a reader sees the old file or the new one.

    Raises:
        OSError: where it cannot be written; an older file stays as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbour = path.with_name(_neighbour(path, str(os.getpid())))
    try:
        with neighbour.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(neighbour, path)
    except BaseException:
        neighbour.unlink(missing_ok=True)
        raise


def sweep(path: Path) -> None:
    """Remove what killed processes left of a file that they were writing; for who alone may write it now."""
    for neighbour in path.parent.glob(_neighbour(path, "*")):
        neighbour.unlink(missing_ok=True)


def _neighbour(path: Path, process: str) -> str:
    return f".{path.name}.{process}.tmp"
