"""Runs: a model file and its run folder, started, resumed, and loaded again."""

import dataclasses
import datetime
import hashlib
import importlib.metadata
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from pplemd.checkpoint import Checkpoints, RunFolder, write_json
from pplemd.distil import Distillation, Distilled, distillation
from pplemd.dsl import load_file, select
from pplemd.errors import CheckpointError
from pplemd.learning import Taught, first_window
from pplemd.model import Model, Plan, plan
from pplemd.override import as_data, override

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Declared:
    """A model as a file declares it, its recipe with the command line's changes.

    Attributes:
        path: the model file.
        name: the model's name in the file.
        model: the model, with the recipe that is used.
        overrides: the changes to its recipe, as `path=value`.
    """

    path: Path
    name: str
    model: Model
    overrides: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def folder_name(self) -> str:
        """A name for its run folders: the file's, with the program's where that differs."""
        return self.path.stem if self.name == self.path.stem else f"{self.path.stem}-{self.name}"


def declare(path: Path, name: str | None, overrides: list[str] | tuple[str, ...] = ()) -> Declared:
    """Load a model file and pick a model of it.

    Args:
        path: the model file; it is executed: it is code.
        name: which of its models; may be None where there is one.
        overrides: changes to its recipe, `path=value`.

    Raises:
        ProgramError: where the file does not load or holds no such model.
        RecipeError: where an override does not fit.
    """
    found, model = select(load_file(path), Model, name)
    recipe = override(model.recipe, list(overrides))
    return Declared(path.absolute(), found, dataclasses.replace(model, recipe=recipe), tuple(overrides))


def new_folder(declared: Declared, parent: Path) -> RunFolder:
    """A run folder that does not exist yet: runs/digits, then runs/digits-2, ..."""
    candidate, number = parent / declared.folder_name, 1
    while candidate.exists():
        number += 1
        candidate = parent / f"{declared.folder_name}-{number}"
    return RunFolder(candidate)


def newest_folder(declared: Declared, parent: Path) -> RunFolder:
    """The newest of a model's run folders.

    Raises:
        CheckpointError: where there is none.
    """
    names = [path for path in parent.glob(f"{declared.folder_name}*") if RunFolder(path).config.is_file()]
    mine = [path for path in names if RunFolder(path).read_config()["model"]["path"] == str(declared.path)]
    if not mine:
        raise CheckpointError(f"there is no run of {declared.path} in {parent} to resume; leave out --resume.")
    return RunFolder(max(mine, key=lambda path: RunFolder(path).config.stat().st_mtime_ns))


def begin(declared: Declared, folder: RunFolder) -> None:
    """Write the configuration of a new run.

    Raises:
        CheckpointError: where the folder holds a run already, or cannot be written.
    """
    if folder.config.exists():
        raise CheckpointError(
            f"{folder.path} holds a run already. Go on with it by --resume, or choose another folder by --out."
        )
    try:
        write_json(folder.config, _configuration(declared))
    except OSError as error:
        raise CheckpointError(f"the run folder {folder.path} cannot be written: {error}.") from error


def _configuration(declared: Declared) -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "model": {"path": str(declared.path), "sha256": declared.digest, "name": declared.name},
        "overrides": list(declared.overrides),
        "recipe": as_data(declared.model.recipe),
        "teacher": _describe_teacher(declared.model),
        "environment": {
            "pplemd": importlib.metadata.version("pplemd"),
            "jax": jax.__version__,
            "python": platform.python_version(),
            "device": f"{device.platform}: {device.device_kind}",
            "system": platform.platform(),
        },
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _describe_teacher(model: Model) -> dict[str, Any]:
    if isinstance(model.teacher, Taught):
        return {"taught": as_data(model.teacher.recipe), "data": model.teacher.data.digest()}
    return {"ready": type(model.teacher).__name__}


def declared_again(folder: RunFolder, model_file: Path | None, say: Say, same: bool = False) -> Declared:
    """The model that a run was started with, loaded from its file.

    Args:
        folder: the run.
        model_file: another place of the model file; by default where it was.
        say: told where the file has changed since.
        same: whether it must not have changed.

    Raises:
        CheckpointError: where the file is gone, or has changed and must not.
    """
    config = folder.read_config()
    try:
        known = config["model"]
        path, name, sha256 = Path(known["path"]), known["name"], known["sha256"]
        overrides = tuple(config["overrides"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{folder.config} lacks {error}; it was not written by pplemd distill.") from error
    path = model_file or path
    if not path.is_file():
        raise CheckpointError(
            f"the run {folder.path} was made from {path}, which is gone. Give its new place with --model FILE."
        )
    declared = declare(path, name, overrides)
    if declared.digest != sha256:
        if same:
            raise CheckpointError(
                f"{path} has changed since the run {folder.path} was started, so going on would not be the same run. "
                "Restore the file, or start a new run with another --out."
            )
        say(f"note: {path} has changed since this run was started.")
    return declared


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A run read back from its folder.

    Attributes:
        declared: its model.
        plan: the traced model.
        distilled: its generator, of the newest checkpoint.
        step: the step of that checkpoint.
    """

    declared: Declared
    plan: Plan
    distilled: Distilled
    step: int


def load(folder: RunFolder, model_file: Path | None, say: Say) -> Loaded:
    """Read a run's generator back; the teacher is not needed, and not trained.

    Raises:
        CheckpointError: where the run has no checkpoint that can be read.
    """
    declared = declared_again(folder, model_file, say)
    planned = plan(declared.model)
    work = distillation(planned, planned.teacher, declared.model.recipe)
    if not folder.checkpoints.is_dir():
        raise CheckpointError(f"{folder.path} has no checkpoint yet. Distil it to an end: add --resume.")
    checkpoints = Checkpoints(folder.checkpoints)
    try:
        found = checkpoints.latest(window_structure(work), say)
    finally:
        checkpoints.close()
    if found is None:
        raise CheckpointError(f"{folder.path} has no checkpoint yet. Distil it to an end: add --resume.")
    step, window = found
    return Loaded(declared, planned, work.distilled(window.state), step)


def window_structure(work: Distillation) -> Any:
    """What a checkpoint of a distillation holds, as shapes."""
    return eqx.filter_eval_shape(lambda: first_window(work.step, work.initial(), work.key))

