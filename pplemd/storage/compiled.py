"""Compiled programs kept between runs, by JAX's persistent compilation cache."""

import functools
import hashlib
import logging
import os
import platform
from pathlib import Path
from typing import Any

import jax

from pplemd.devices.compiler import OPTION
from pplemd.storage.cache import cache_dir

logger = logging.getLogger("pplemd")

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
