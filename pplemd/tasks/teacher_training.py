"""Getting a teacher ready: as it is, from a checkpoint or the cache, or taught now; a stopped training goes on."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pplemd.devices import ONE, Devices, first
from pplemd.errors import CheckpointError
from pplemd.importers import Imported
from pplemd.learning import Schedule, Taught, Watcher, fit, teach_step
from pplemd.report.reporter import AbstractNarrator
from pplemd.storage.cache import cache_dir, cached_arrays, is_cached
from pplemd.storage.checkpoints import Checkpoints
from pplemd.storage.folder import snapshots
from pplemd.storage.locks import is_written_to
from pplemd.tasks.override import as_data
from pplemd.teachers import AbstractTeacher

VERSION = 1  # of the teacher's training; raised when a change of code would train another teacher from the same recipe
CHECKPOINTS = 20  # of one training: a kill costs a twentieth of it at most
POLL = 0.5  # seconds between looks at a training of another process
PATIENCE = 20  # skipped updates in a row after which it stops


def taught_digest(taught: Taught) -> str:
    """SHA-256 of all that a taught teacher depends on: recipe, data, network structure, code version."""
    structure = str(eqx.filter_eval_shape(taught.build))
    parts = [str(VERSION), json.dumps(as_data(taught.recipe), sort_keys=True), taught.data.digest(), structure]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def ready_teacher(
    teacher: AbstractTeacher | Taught | Imported, narrator: AbstractNarrator, devices: Devices = ONE
) -> AbstractTeacher:
    """A teacher that can be asked: as it is, from its checkpoint, from the cache, or taught now and cached.

    A training that is stopped or killed goes on from its last checkpoint, bit for bit; its checkpoints lie in the cache
    until it ends. One that another process is at is waited for.

    Args:
        teacher: a teacher, or one that is declared by `em.teach` or `em.imported`.
        narrator: told how the training goes.
        devices: what to train on; of several processes, each calls this.

    Raises:
        Interrupted: after SIGINT or SIGTERM, once the training is saved.
        DivergenceError: where its updates stop being finite.
        ImporterError: where its checkpoint is refused.
    """
    if isinstance(teacher, Imported):
        return teacher.ready()
    if not isinstance(teacher, Taught):
        return teacher
    digest = taught_digest(teacher)
    arrays, static = eqx.partition(eqx.filter_eval_shape(teacher.build), _is_shape)
    leaves, structure = jax.tree.flatten(arrays)
    partial = cache_dir() / f"teacher-{digest[:40]}.partial"
    if jax.process_count() == 1:
        _wait_for_another(partial, _key(digest), teacher.recipe.steps, narrator)
    stored = cached_arrays(_key(digest), lambda: _teach(teacher, narrator, partial, devices), shared=True)
    if first() and is_cached(_key(digest)) and not is_written_to(partial):  # else another process is teaching it
        shutil.rmtree(partial, ignore_errors=True)
    found = [jnp.asarray(stored[str(i)], leaf.dtype) for i, leaf in enumerate(leaves)]
    return teacher.guided(eqx.combine(jax.tree.unflatten(structure, found), static))


def at_rest(teacher: AbstractTeacher) -> Callable[[], AbstractTeacher]:
    """A function that gives the teacher back, its weights meanwhile in the memory of the host.

    For one that is not asked for a while: what trains asks a copy of it, in the recipe's precision.
    """
    arrays, static = eqx.partition(teacher, eqx.is_array)
    kept = jax.device_get(arrays)
    return lambda: eqx.combine(jax.tree.map(jnp.asarray, kept), static)


def is_ready(teacher: AbstractTeacher | Taught | Imported) -> bool:
    """Whether `ready_teacher` would give it without training."""
    if isinstance(teacher, Imported):
        return teacher.path is not None and teacher.path.exists()
    return not isinstance(teacher, Taught) or is_cached(_key(taught_digest(teacher)))


def _key(digest: str) -> str:
    """Of the cache."""
    return f"teacher-{digest}"


def _is_shape(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _wait_for_another(partial: Path, key: str, steps: int, narrator: AbstractNarrator) -> None:
    """Wait while another process teaches this teacher: until it has, or has stopped."""
    if is_cached(key) or not is_written_to(partial):
        return
    narrator.say(
        "note: another process is teaching this teacher, which is waited for; where it is stopped, its training goes "
        "on here."
    )
    with narrator.task("teacher, in another process", steps) as task:
        while not is_cached(key) and is_written_to(partial):
            task.to(max((int(path.name) for path in snapshots(partial)), default=0))
            time.sleep(POLL)


def _teach(taught: Taught, narrator: AbstractNarrator, partial: Path, devices: Devices) -> dict[str, np.ndarray]:
    recipe = taught.recipe
    key = jax.random.fold_in(jax.random.key(recipe.seed), 1)
    schedule = Schedule(
        recipe.steps,
        log_every=50,
        sample_every=recipe.steps + 1,  # never
        checkpoint_every=max(recipe.steps // CHECKPOINTS, 1),
        patience=PATIENCE,
    )
    step = teach_step(taught)
    checkpoints = _checkpoints(partial, narrator)
    with narrator.task("teacher", recipe.steps, ("loss",)) as task:
        watcher = Watcher(
            advance=task.to, report=lambda _, figures: task.show(figures), note=narrator.say, phase=task.phase
        )
        try:
            state = fit(step, step.init(eqx.filter_jit(taught.build)()), key, schedule, watcher, checkpoints, devices)
        finally:
            if checkpoints is not None:
                checkpoints.close()
    return {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(eqx.filter(state.average, eqx.is_array)))}


def _checkpoints(partial: Path, narrator: AbstractNarrator) -> Checkpoints | None:
    """Checkpoints in the cache; without them where it cannot be written, as the cache itself does."""
    try:
        return Checkpoints(partial, keep=2)
    except CheckpointError as error:
        narrator.say(f"note: {error} The teacher's training cannot be resumed if it is stopped.")
        return None
