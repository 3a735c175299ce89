"""Run folders: what a run leaves behind, written so that a kill at any moment loses nothing that was kept."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
import orbax.checkpoint as ocp

from pplemd.errors import CheckpointError

log = logging.getLogger("pplemd")


class RunFolder:
    """The folder of one run: config.json, metrics.jsonl, samples.png, checkpoints/, evaluation.json.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.metrics = self.path / "metrics.jsonl"
        self.samples = self.path / "samples.png"
        self.checkpoints = self.path / "checkpoints"
        self.evaluation = self.path / "evaluation.json"

    def read_config(self) -> dict[str, Any]:
        """The configuration that the run was started with.

        Raises:
            CheckpointError: where the folder is no run, or its config.json is damaged.
        """
        if not self.config.is_file():
            raise CheckpointError(
                f"{self.path} is not a run folder: it has no config.json. Give the folder that `pplemd distill` "
                "printed, for example runs/digits."
            )
        try:
            return json.loads(self.config.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{self.config} is damaged ({error}). Without it the run cannot be rebuilt; distil again, or restore "
                "the file from a copy."
            ) from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: to a temporary neighbour, flushed, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; figures that are not finite become null."""
    write_atomic(path, (json.dumps(finite(value), indent=2) + "\n").encode())


def finite(value: Any) -> Any:
    """The same value with NaN and infinities as None, which JSON can hold."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


class MetricsFile:
    """metrics.jsonl: one JSON object a line, each with its step, in order.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        self._path = path

    def keep_until(self, step: int) -> None:
        """Drop what was written after a step: a resumed run writes it again."""
        kept = [line for line in _complete_lines(self._path) if line["step"] <= step]
        write_atomic(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def append(self, step: int, figures: dict[str, float]) -> None:
        """Add a line and flush it to the disk."""
        with self._path.open("a") as file:
            file.write(json.dumps(finite({"step": step, **figures})) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _complete_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that were written whole; a kill can leave a torn one at the end."""
    if not path.is_file():
        return
    for line in path.read_text(errors="replace").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


class Checkpoints:
    """Numbered snapshots of a pytree's arrays, saved by Orbax, each with a digest of its content.

    Args:
        folder: where they lie.
        keep: how many of the newest to keep.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self._folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, tree: Any) -> None:
        """Save a snapshot; it appears under its number only when it is whole.

        Raises:
            CheckpointError: where it cannot be written, as on a full disk; older ones stay.
        """
        arrays = eqx.filter(tree, eqx.is_array)
        try:
            if step in self._manager.all_steps():  # a damaged one that `latest` passed over
                self._manager.delete(step)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(arrays), digest=ocp.args.JsonSave({"sha256": digest(arrays)})
                ),
            )
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint of step {step} could not be written to {self._folder}: {error}. "
                "Earlier checkpoints are untouched; make room and go on with --resume."
            ) from error

    def latest(self, like: Any, say: Callable[[str], None] = log.warning) -> tuple[int, Any] | None:
        """The newest snapshot that is whole, or None where there is none.

        Args:
            like: a pytree with the same arrays (or their shapes) as the one that was saved.
            say: told of each damaged snapshot that is passed over.

        Raises:
            CheckpointError: where there are snapshots but none can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return step, self._read(step, like)
            except Exception as error:  # Orbax and TensorStore raise many kinds; each means: not this one
                reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                say(f"checkpoint {step} in {self._folder} cannot be read ({reason}); trying the one before it.")
        if steps:
            raise CheckpointError(
                f"none of the {len(steps)} checkpoints in {self._folder} can be read. They are damaged, or of a model "
                "file or recipe that has since changed; start again with a new --out."
            )
        return None

    def _read(self, step: int, like: Any) -> Any:
        arrays, static = eqx.partition(like, lambda leaf: eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct))
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, arrays)
        found = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), digest=ocp.args.JsonRestore())
        )
        shapes = jax.tree.map(lambda a, b: a.shape == b.shape and a.dtype == b.dtype, found["state"], abstract)
        if not jax.tree.all(shapes):
            raise CheckpointError("its arrays have other shapes than the program's")
        if digest(found["state"]) != found["digest"]["sha256"]:
            raise CheckpointError("its content does not match its digest")
        return eqx.combine(found["state"], static)

    def close(self) -> None:
        """Wait for what is being written and let go of the folder."""
        self._manager.close()


def digest(tree: Any) -> str:
    """SHA-256 of a pytree's arrays: their places, types, shapes and bytes."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        data = jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        content = np.ascontiguousarray(np.asarray(data))
        total.update(f"{jax.tree_util.keystr(path)}{leaf.dtype}{content.shape}".encode())
        total.update(content.tobytes())
    return total.hexdigest()
