"""What is kept between runs: arrays by the key that settles them, and compiled programs by JAX's own cache."""

import functools
import hashlib
import logging
import os
import platform
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from pplemd.devices import arrays_from_first, first
from pplemd.devices.compiler import OPTION

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
        # write beside the path, then rename: a reader sees the whole file or none. Failure only warns
        temporary = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **dict(built))  # type: ignore[arg-type]  # numpy 2.1 added one flag among the names
            os.replace(temporary, path)
        except OSError as error:
            logger.warning("the cache folder %s cannot be written (%s); nothing is kept", path.parent, error)
            if temporary is not None and os.path.exists(temporary):
                os.unlink(temporary)
    return built


def is_cached(key: str) -> bool:
    """Whether the cache has a file of this key; it may still be damaged."""
    return _place(key).is_file()


def _place(key: str) -> Path:
    return cache_dir() / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.npz"


MOST = 4 * 2**30  # bytes kept; some hundred programs
PLAIN = {OPTION: ""}  # reading such fusions back takes the square of their number
SHORTEST = 0.0  # seconds of compilation: some thirty small programs of a start are read in a tenth of the time


def keep_compiled() -> Path | None:
    """Keep what is compiled from now on in `compiled/MACHINE` of the cache folder, and use what is there.

    JAX's own variables come first: JAX_ENABLE_COMPILATION_CACHE=false keeps nothing, JAX_COMPILATION_CACHE_DIR is
    another place, which is then left as it is. The oldest programs go where there is more than 4 GiB.

    Returns:
        The folder; None where the choice was the user's, or it cannot be written.
    """
    config: Any = jax.config  # whose names are not typed in every version
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or not config.jax_enable_compilation_cache:
        return None
    folder = cache_dir() / "compiled" / machine()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trim(folder, MOST)
    except OSError as error:
        logger.warning("the cache folder %s cannot be written (%s); compiled programs are not kept", folder, error)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)
    return folder


@functools.cache
def read_fast() -> dict[str, str]:
    """Options of the compiler under which a program of many operations is read from the cache in less time.

    XLA's CPU backend looks for each fusion of its YNNPACK among all instructions when it reads a program: two thirds of
    the time for a U-Net's step. Steps with and without them take the same time (docs/benchmarks/memory.md). Where XLA
    read `pplemd.devices.compiler.FLAGS` before it started, all programs are compiled so; these serve where JAX was at
    work before.

    Returns:
        The options, which go into `compiler_options` of `jax.jit`; none on other devices, or where this jaxlib does
        not know them.
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: jax.numpy.zeros(()), compiler_options=dict(PLAIN)).lower().compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return dict(PLAIN)


def machine() -> str:
    """A name for processors that are alike: what was compiled for one may crash another that shares the folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    able = next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())
    return hashlib.sha256(f"{platform.machine()} {able}".encode()).hexdigest()[:16]


def trim(folder: Path, most: int) -> None:
    """Remove the oldest files of a folder until it holds no more than so many bytes."""
    found = []
    for path in folder.iterdir():
        try:
            status = path.stat()
        except FileNotFoundError:  # another process trims too
            continue
        if path.is_file():
            found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= size
