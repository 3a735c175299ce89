"""Columns of data by name, from files."""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from pplemd.errors import DataError

_REPAIR = "write it again with np.save or np.savez(path, image=...)"


def columns(path: str | PathLike[str]) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays of a file or folder, by name: the columns of a fit's `data`.

    Args:
        path: of a folder of .npy files, each a column of its file's name, memory-mapped: a fit to rows reads of them
            what it looks at; or of an .npz file, whose arrays are read.

    Returns:
        Arrays of any shapes and types.

    Raises:
        DataError: nothing there, no arrays, or files that are damaged or hold Python objects.
    """
    where = Path(path)
    if where.is_dir():
        found = {file.stem: _read(file) for file in sorted(where.glob("*.npy"))}
    elif where.suffix == ".npz":
        found = _read(where)
    else:
        raise DataError(f"{path}: found {_kind(where)}, expected a folder of .npy files, or an .npz: correct the path")
    if not found:
        raise DataError(f"{path}: found no array, expected one for each column: save each as NAME.npy")
    return found


def _read(file: Path) -> Any:
    """A memory-mapped array of an .npy file, or the arrays of an .npz by name."""
    try:
        if file.suffix == ".npy":
            return np.load(file, mmap_mode="r", allow_pickle=False)
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except Exception as error:  # NumPy raises what its readers of zips, headers and numbers raise
        raise DataError(f"{file}: found no arrays that can be read ({error}), expected some: {_REPAIR}") from error


def _kind(where: Path) -> str:
    return "nothing there" if not where.exists() else f"a {where.suffix or 'nameless'} file"
