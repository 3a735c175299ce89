"""Arrays kept between runs: what is slow to compute and settled by its key."""

import hashlib
import logging
import os
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from pplemd.devices import arrays_from_first, first

logger = logging.getLogger("pplemd")


def cache_dir() -> Path:
    """The folder of cached arrays: $PPLEMD_CACHE, else `pplemd` in the platform's cache folder; it may be missing."""
    chosen = os.environ.get("PPLEMD_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path("~/Library/Caches/pplemd").expanduser()
    if sys.platform == "win32" and "LOCALAPPDATA" in os.environ:
        return Path(os.environ["LOCALAPPDATA"], "pplemd", "cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "pplemd"


def _load(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of the file; None, with a warning where it exists, if it cannot be read."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:  # np.load leaks a bad file it opens
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        logger.warning("the cache file %s is damaged (%s) and is built again", path, error)
        return None


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write beside the path, then rename: a reader sees the whole file or none. Failure only warns."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **dict(arrays))  # type: ignore[arg-type]  # numpy 2.1 added one flag among the names
        os.replace(temporary, path)
    except OSError as error:
        logger.warning("the cache folder %s cannot be written (%s); nothing is kept", path.parent, error)
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def cached_arrays(
    key: str, build: Callable[[], Mapping[str, np.ndarray]], *, shared: bool = False
) -> dict[str, np.ndarray]:
    """The arrays that `build()` returns, from the cache where an earlier call with the same key left them.

    Args:
        key: whatever settles the content: a digest of the inputs, the settings, the versions.
        build: computes the numeric arrays by name; called only where the cache has none that can be read.
        shared: whether all processes of a run call this: the first one's cache is read and written then, and the
            arrays are the same in all. Else a process has its own.

    Returns:
        The arrays by name. A damaged file is built again and an unwritable folder passed over, with a warning on the
        logger "pplemd".
    """
    path = _place(key)
    found = _load(path) if first() or not shared else None
    found = arrays_from_first(found) if shared else found
    if found is not None:
        return found
    built = dict(build())
    if first() or not shared:
        _save(path, built)
    return built


def is_cached(key: str) -> bool:
    """Whether the cache has a file of this key; it may still be damaged."""
    return _place(key).is_file()


def _place(key: str) -> Path:
    return cache_dir() / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.npz"
