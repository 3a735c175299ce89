"""A task with its name, its file and the changes to its numbers: what a run is started from."""

import dataclasses
import importlib.metadata
import platform
import re
from pathlib import Path

import jax

from pplemd.dsl import load_file, select, settled_by, siblings
from pplemd.storage.checkpoints import digest_of_file
from pplemd.tasks.base import AbstractTask, kinds_of_tasks
from pplemd.tasks.distillation import Model, distillation_of
from pplemd.tasks.results import single, wide

GIVEN = "given."  # what a value for the model file itself begins with


@dataclasses.dataclass(frozen=True)
class Declared:
    """A task as it was declared, its numbers with the changes that were made.

    Attributes:
        path: the model file, or None where the task was declared in Python.
        name: the task's name.
        task: the task, with the numbers that are used.
        overrides: the changes to them, as `path=value`.
        narrowed: whether JAX's 64-bit mode was on and is off now, since a model is distilled in 32 bits.
    """

    path: Path | None
    name: str
    task: AbstractTask
    overrides: tuple[str, ...]
    narrowed: bool = False

    @property
    def distillation(self) -> Model:
        """The task, where it has a teacher to distil.

        Raises:
            RecipeError: where it has none.
        """
        return distillation_of(self.task, self.name, self.path)

    @property
    def digest(self) -> str | None:
        """SHA-256 of the file."""
        return None if self.path is None else digest_of_file(self.path)

    @property
    def modules(self) -> dict[str, str]:
        """SHA-256 of each file of the same folder that the file imports, by its place there."""
        if self.path is None:
            return {}
        folder = self.path.resolve().parent
        return {file.relative_to(folder).as_posix(): digest_of_file(file) for file in siblings(self.path)}

    @property
    def folder_name(self) -> str:
        """A name for its run folders: the file's, with the model's where that differs."""
        if self.path is None or self.name == self.path.stem:
            return self.name
        return f"{self.path.stem}-{self.name}"


def declare(
    path: Path, name: str | None = None, overrides: tuple[str, ...] = (), teacher: Path | None = None
) -> Declared:
    """Load a model file and pick a task of it.

    Args:
        path: the model file; it is executed: it is code.
        name: which of its tasks; may be None where there is one.
        overrides: changes to its numbers, `path=value`; what the file asks for by `em.given`, `given.name=value`.
        teacher: the checkpoint of a teacher that its user brings.

    Raises:
        ProgramError: where the file does not load or holds no such task.
        RecipeError: where an override does not fit, or the task has a teacher of its own.
    """
    given = dict(one.removeprefix(GIVEN).split("=", 1) for one in overrides if one.startswith(GIVEN) and "=" in one)
    module = load_file(path, given)
    found, task = select(module, kinds_of_tasks(), name)
    kept = tuple(f"{GIVEN}{name}={value}" for name, value in settled_by(module).items())
    return declare_value(task, overrides + kept, teacher, path.absolute(), found)


def declare_value(
    task: AbstractTask,
    overrides: tuple[str, ...] = (),
    teacher: Path | None = None,
    path: Path | None = None,
    name: str = "model",
) -> Declared:
    """A task that was declared in Python, or found in a file; a model in JAX's 32-bit mode from here on.

    Raises:
        RecipeError: where an override does not fit.
    """
    known = task if teacher is None else task.with_teacher(teacher)
    of_file = tuple(one for one in overrides if path is not None and one.startswith(GIVEN) and "=" in one)
    changed = known.changed([one for one in overrides if one not in of_file])
    if not task.single or not single():
        return Declared(path, name, changed, overrides)
    return Declared(path, name, changed.narrowed(), overrides, narrowed=True)


def configuration(declared: Declared) -> dict[str, object]:
    """What a run is started from, as JSON data."""
    path = None if declared.path is None else str(declared.path)
    modules = declared.modules
    model = {"path": path, "sha256": declared.digest, "name": declared.name}
    return {
        "model": model | ({"modules": modules} if modules else {}),
        "overrides": list(declared.overrides),
        **declared.task.recorded(),
        **declared.task.learned_from(),
        "environment": environment(),
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """The installed versions of what pplemd stands on, so that the environment can be made again."""
    required = [one for one in importlib.metadata.requires("pplemd") or () if "extra ==" not in one]
    names = [re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in required]
    return {name: importlib.metadata.version(name) for name in sorted([*names, "jaxlib"])}


def environment() -> dict[str, str]:
    """What the figures of a run depend on besides its model."""
    device = jax.devices()[0]
    bits = {"bits": "64"} if wide() else {}
    return bits | {
        "pplemd": importlib.metadata.version("pplemd"),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": f"{device.platform}: {device.device_kind}",
        "system": platform.platform(),
    }
