"""Numbered snapshots of a pytree, each whole or not there; the only place that meets Orbax."""

import contextlib
import errno
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from pplemd.devices import first, from_first, led, whole
from pplemd.errors import CheckpointError
from pplemd.storage.folder import locked, parsed, reason, sweep, unwritable, write_atomic


def outline(tree: PyTree) -> dict[str, str]:
    """Place, type and shape of each of a pytree's arrays, such as {"['w']": "float32(3, 2)"}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{leaf.dtype}{tuple(leaf.shape)}" for path, leaf in leaves}


def digest(tree: PyTree) -> str:
    """SHA-256 of a pytree's arrays: their places in it, types, shapes and bytes, whatever devices they lie on."""
    total = hashlib.sha256()
    for path, given in jax.tree_util.tree_leaves_with_path(tree):
        leaf = whole(given)  # one at a time
        data = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        content = np.ascontiguousarray(np.asarray(data))
        total.update(f"{jax.tree_util.keystr(path)}{leaf.dtype}{content.shape}".encode())
        total.update(content.tobytes())
    return total.hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path inside it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): digest_of_file(path) for path in files}


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


log = logging.getLogger("pplemd")

OVERHEAD = 500_000  # bytes of a checkpoint besides its arrays: metadata, manifests, blocks; 180 kB was found


class Checkpoints:
    """Numbered snapshots of a pytree's arrays, saved by Orbax, each with a digest of its content.

    Of several processes, all call the same methods, each writes its own part, and the first one the rest: the folder
    must be one that they share. What was saved on some devices can be read on any others.

    Args:
        folder: where they lie.
        keep: how many of the newest to keep.
        read_only: write nothing, and let another process write meanwhile.

    Raises:
        CheckpointError: where the folder cannot be made, or another process writes in it.
    """

    def __init__(self, folder: Path, keep: int = 2, *, read_only: bool = False):
        self._folder = folder.absolute()
        self._seals = self._folder / "seals.json"
        self._lock: IO[bytes] | None = None
        self._pool = ThreadPoolExecutor(1, "checkpoints")
        self._writing: tuple[int, Future] | None = None
        if not read_only:
            led(self._take)
        try:
            with _quiet():
                self._manager = _orbax().CheckpointManager(self._folder, options=_options(keep, read_only))
        except (OSError, ValueError) as error:
            raise CheckpointError(unwritable(folder, error)) from error

    def _take(self) -> None:
        """Make the folder this run's own."""
        self._lock = locked(self._folder)
        sweep(self._seals)

    def save(self, step: int, tree: PyTree) -> None:
        """Save a snapshot; it appears under its number only when it is whole.

        Returns once the arrays are copied: their buffers may be given away. They are written meanwhile; `wait`, `close`
        and the next `save` wait for that, and raise what it met.

        Raises:
            CheckpointError: where it, or the one before, cannot be written, as on a full disk; older ones stay.
        """
        self.wait()
        arrays = eqx.filter(tree, eqx.is_array)
        led(lambda: self._check_room(step, arrays))
        ocp = _orbax()
        try:
            for later in self._manager.all_steps():
                if later >= step:  # a damaged one that `latest` passed over: Orbax would not save one before it
                    self._manager.delete(later)
            saved = self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays),
                    digest=ocp.args.JsonSave({"sha256": digest(arrays), "arrays": outline(arrays)}),
                ),
            )
        except Exception as error:  # Orbax and TensorStore raise many kinds
            raise self._unwritable(step, error) from error
        if not saved:
            raise CheckpointError(f"checkpoint {step} in {self._folder} was not saved. Choose another folder by --out.")
        self._writing = (step, self._pool.submit(self._finish, step))

    def wait(self) -> None:
        """Wait until what was saved is written.

        Raises:
            CheckpointError: where it cannot be.
        """
        if self._writing is None:
            return
        (step, written), self._writing = self._writing, None
        try:
            written.result()
        except Exception as error:  # as above
            raise self._unwritable(step, error) from error

    def _finish(self, step: int) -> None:
        """Wait for Orbax, and seal; in a thread of its own."""
        self._manager.wait_until_finished()
        if first():
            self._seal(step)

    def _unwritable(self, step: int, error: Exception) -> Exception:
        """What to raise; where a process was lost, that is said elsewhere."""
        lost = isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1
        return error if lost else CheckpointError(unwritable(self._folder / str(step), error))

    def _check_room(self, step: int, arrays: Any) -> None:
        """See that there is room, before Orbax finds that there is none, whose threads report it at length."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)) + OVERHEAD
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            full = OSError(errno.ENOSPC, f"{needed / 1e6:.1f} MB needed, {free / 1e6:.1f} MB free")
            raise CheckpointError(unwritable(self._folder / str(step), full)) from full

    def _seal(self, new: int) -> None:
        """Write down the digests of the files of a new snapshot, beside those of the others that are kept.

        Orbax leaves reads unfinished, and their complaints on the screen, where it meets a damaged file or other
        shapes than the caller's: so both are seen before it reads.
        """
        before = _json_or_empty(self._seals)
        kept = {str(step): before[str(step)] for step in self._manager.all_steps() if str(step) in before}
        write_atomic(self._seals, json.dumps({**kept, str(new): digests(self._folder / str(new))}).encode())

    def _damage(self, step: int) -> str | None:
        """What is wrong with a snapshot's files, or None."""
        sealed = _json_or_empty(self._seals).get(str(step))  # none where a kill came before it was written
        if sealed is None:
            return None
        found = digests(self._folder / str(step))
        damaged = sorted(name for name in sealed.keys() | found.keys() if sealed.get(name) != found.get(name))
        return f"its file {damaged[0]} is damaged, missing or strange" if damaged else None

    def latest(self, like: PyTree, say: Callable[[str], None] = log.warning) -> tuple[int, PyTree] | None:
        """The newest snapshot that is whole, or None where there is none.

        Args:
            like: a pytree with the same arrays (or their shapes) as the one that was saved; arrays come back to where
                those are, whatever they were saved from.
            say: called with a sentence on each damaged snapshot that is passed over.

        Raises:
            CheckpointError: where there are snapshots but none can be read.
        """
        self.wait()
        steps, why = from_first(sorted(self._manager.all_steps(), reverse=True)), dict[str, str]()
        for step in steps:
            try:
                return step, self._read(step, like)
            except Exception as error:  # Orbax and TensorStore raise many kinds; each means: not this one
                why[reason(error)] = f"{step}: {reason(error)}"
                if step != steps[-1]:
                    say(f"checkpoint {step} in {self._folder} cannot be read ({reason(error)}); trying the one before.")
        if steps:
            raise CheckpointError(
                f"none of the {len(steps)} checkpoints in {self._folder} can be read for this program "
                f"({'; '.join(why.values())}). They are left as they are: use them with the model file and the numbere "
                "that they were made by, or start a new run with another --out."
            )
        return None

    def _read(self, step: int, like: Any) -> Any:
        arrays, static = eqx.partition(like, lambda leaf: eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct))
        abstract = jax.tree.map(_placed, arrays)
        damage = from_first(self._damage(step) if first() else None)
        if damage is not None:
            raise CheckpointError(damage)
        ocp = _orbax()
        seal = self._manager.restore(step, args=ocp.args.Composite(digest=ocp.args.JsonRestore()))["digest"]
        if (other := _other(seal["arrays"], outline(abstract))) is not None:
            raise CheckpointError(f"it is of another program, {other}")
        found = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))["state"]
        if digest(found) != seal["sha256"]:
            raise CheckpointError("its content does not match its digest")
        return eqx.combine(found, static)

    def close(self) -> None:
        """Wait for what is being written and let go of the folder.

        Raises:
            CheckpointError: where it cannot be written.
        """
        try:
            self.wait()
        finally:
            self._pool.shutdown()
            self._manager.close()
            if self._lock is not None:
                self._lock.close()


def _other(saved: dict[str, str], wanted: dict[str, str]) -> str | None:
    """The first difference between a snapshot's arrays and a program's, or None."""
    for name in sorted(saved.keys() | wanted.keys()):
        if saved.get(name) != wanted.get(name):
            return f"whose {name} is {saved.get(name, 'not there')}, here {wanted.get(name, 'not there')}"
    return None


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape, type and place of an array that is to be read: the first device, where nothing is said."""
    place = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)


def _json_or_empty(path: Path) -> dict[str, Any]:
    try:
        found = parsed(path.read_text(errors="replace"))
    except OSError:
        return {}
    return found if isinstance(found, dict) else {}


def _orbax() -> ModuleType:
    import orbax.checkpoint  # here: a command that keeps no checkpoint would wait a third of a second for it

    return orbax.checkpoint


def _options(keep: int, read_only: bool) -> Any:
    return _orbax().CheckpointManagerOptions(
        max_to_keep=None if read_only else keep,
        read_only=read_only,
        cleanup_tmp_directories=not read_only,  # what a kill left half written
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax warns that a folder which is only read is only read."""
    orbax = logging.getLogger("absl")
    before = orbax.level
    orbax.setLevel(max(before, logging.ERROR))
    try:
        yield
    finally:
        orbax.setLevel(before)
