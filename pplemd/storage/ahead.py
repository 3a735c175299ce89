"""The compiled step of an earlier run alike, read on another thread while this run traces its own."""

import hashlib
import json
import logging
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jaxlib
from jax.experimental.serialize_executable import deserialize_and_load, serialize

from pplemd.devices.compiler import FLAGS
from pplemd.storage.compiled import machine
from pplemd.storage.files import write_atomic

logger = logging.getLogger("pplemd")

OWN, OTHERS = 0o600, 0o022  # modes of files: what the user alone reads and writes; the bits by which others may write


class Kept(NamedTuple):
    """A compiled program, and what was compiled."""

    identity: str
    program: jax.stages.Compiled


class Ahead:
    """What is probably the program that a run is about to compile, being read since this was made.

    XLA's CPU backend needs about as long to read a large program as JAX to trace it: at the same time, a second start
    takes two thirds (docs/benchmarks.md). It is used where the program traced in the meantime is, letter by letter,
    that from which it was compiled. On other devices, whose programs are read in no time, nothing is done.

    Args:
        run: what a run is told apart by before anything of it is traced, such as its model file and its overrides.
    """

    def __init__(self, run: str) -> None:
        folder = _folder()
        self._path = None if folder is None else folder / f"step-{_sha256(run)[:32]}"
        thread = ThreadPoolExecutor(1, "pplemd-ahead")
        self._reading = None if self._path is None else thread.submit(_read, self._path)
        thread.shutdown(wait=False)  # it ends when that is read

    @property
    def works(self) -> bool:
        """Whether there is a place for programs here."""
        return self._path is not None

    def compiled(self, lowered: jax.stages.Lowered, options: dict[str, str]) -> jax.stages.Compiled:
        """The program, which was read or is compiled and kept.

        Args:
            lowered: the traced program, of arrays as its only arguments and a tuple of arrays as its results.
            options: the compiler's, which `lowered` does not show.
        """
        identity = _sha256(lowered.as_text() + _surroundings(options))
        found, self._reading = None if self._reading is None else self._reading.result(), None
        if found is not None and found.identity == identity:
            return found.program
        compiled = lowered.compile()
        if self._path is not None:
            _write(self._path, identity, compiled)
        return compiled


def _folder() -> Path | None:
    """Where JAX keeps what it compiles, on a CPU; None on other devices, where it keeps nothing, or looks for NaN."""
    config: Any = jax.config  # whose names are not typed in every version
    if not config.jax_enable_compilation_cache or config.jax_debug_nans or jax.default_backend() != "cpu":
        return None
    folder = Path(config.jax_compilation_cache_dir or os.devnull)
    return folder if folder.is_dir() and hasattr(os, "getuid") else None


def _surroundings(options: dict[str, str]) -> str:
    """All that a compiled program depends on beside its text."""
    config: Any = jax.config
    flags = FLAGS, os.environ.get("XLA_FLAGS"), sorted(config.values.items())
    return repr((options, jax.__version__, jaxlib.__version__, machine(), flags))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> Kept | None:
    """What a file holds; None where there is none, or none of this user's, or it is damaged.

    Loading a program is running it. So the file must be this user's own, as JAX's are that lie beside it.
    """
    try:
        status = path.stat()
        if status.st_uid != os.getuid() or status.st_mode & OTHERS:
            return None
        told, _, packed = path.read_bytes().partition(b"\n")
        head = json.loads(told)
        arguments = jax.tree.structure(((0,) * head["arguments"], {}))
        results = jax.tree.structure((0,) * head["results"])
        one = jax.devices()[:1]
        program = deserialize_and_load(zlib.decompress(packed), arguments, results, execution_devices=one)
        return Kept(head["identity"], program)
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a damaged file, or one of another jaxlib, may raise
        logger.debug("%s cannot be read (%s); the step is compiled", path, error)
        return None


def _write(path: Path, identity: str, compiled: jax.stages.Compiled) -> None:
    """Keep a program; what cannot be kept is compiled again next time."""
    try:
        payload, arguments, results = serialize(compiled)
        head = {"identity": identity, "arguments": arguments.num_leaves, "results": results.num_leaves}
        write_atomic(path, json.dumps(head).encode() + b"\n" + zlib.compress(payload, 1))
        path.chmod(OWN)
    except Exception as error:  # a full disk, or a program that calls Python
        logger.debug("%s cannot be written (%s); the step is compiled next time too", path, error)
