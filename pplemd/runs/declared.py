"""A model with its name, its file and the changes that were asked for: what a run is started from."""

import dataclasses
import hashlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import jax

from pplemd.dsl import load_file, select
from pplemd.errors import RecipeError
from pplemd.learning import Taught
from pplemd.model import Model
from pplemd.override import as_data, override
from pplemd.teachers import Guided

TEACHER = "teacher."  # what a change of the teacher's recipe begins with


@dataclasses.dataclass(frozen=True)
class Declared:
    """A model as it was declared, its recipe with the changes that were asked for.

    Attributes:
        path: the model file, or None where the model was declared in Python.
        name: the model's name.
        model: the model, with the recipe that is used.
        overrides: the changes to its recipe, as `path=value`.
    """

    path: Path | None
    name: str
    model: Model
    overrides: tuple[str, ...]

    @property
    def digest(self) -> str | None:
        """SHA-256 of the file."""
        return None if self.path is None else hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def folder_name(self) -> str:
        """A name for its run folders: the file's, with the model's where that differs."""
        if self.path is None or self.name == self.path.stem:
            return self.name
        return f"{self.path.stem}-{self.name}"


def declare(path: Path, name: str | None = None, overrides: tuple[str, ...] = ()) -> Declared:
    """Load a model file and pick a model of it.

    Args:
        path: the model file; it is executed: it is code.
        name: which of its models; may be None where there is one.
        overrides: changes to its recipe, `path=value`; to a taught teacher's, `teacher.path=value`.

    Raises:
        ProgramError: where the file does not load or holds no such model.
        RecipeError: where an override does not fit.
    """
    found, model = select(load_file(path), Model, name)
    return Declared(path.absolute(), found, changed(model, overrides), overrides)


def declare_value(model: Model, overrides: tuple[str, ...] = ()) -> Declared:
    """A model that was declared in Python, without a file.

    Raises:
        RecipeError: where an override does not fit.
    """
    return Declared(None, "model", changed(model, overrides), overrides)


def changed(model: Model, overrides: tuple[str, ...]) -> Model:
    """A model with some fields of its recipe, and of its teacher's, replaced.

    Raises:
        RecipeError: where an override does not fit.
    """
    own = [change for change in overrides if not change.startswith(TEACHER)]
    teachers = [change for change in overrides if change.startswith(TEACHER)]
    model = dataclasses.replace(model, recipe=override(model.recipe, own))
    if not teachers:
        return model
    if not isinstance(model.teacher, Taught):
        raise RecipeError(
            f"--set {teachers[0]}: this model's teacher is ready, not taught, so it has no recipe to set."
        )
    recipe = override(model.teacher.recipe, [change.removeprefix(TEACHER) for change in teachers])
    return dataclasses.replace(model, teacher=dataclasses.replace(model.teacher, recipe=recipe))


def configuration(declared: Declared) -> dict[str, Any]:
    """What a run is started from, as JSON data."""
    path = None if declared.path is None else str(declared.path)
    return {
        "model": {"path": path, "sha256": declared.digest, "name": declared.name},
        "overrides": list(declared.overrides),
        "recipe": as_data(declared.model.recipe),
        "teacher": _teacher(declared.model),
        "environment": environment(),
    }


def environment() -> dict[str, str]:
    """What the figures of a run depend on besides its model."""
    device = jax.devices()[0]
    return {
        "pplemd": importlib.metadata.version("pplemd"),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "device": f"{device.platform}: {device.device_kind}",
        "system": platform.platform(),
    }


def _teacher(model: Model) -> dict[str, Any]:
    teacher, found = model.teacher, {"ready": type(model.teacher).__name__}
    if isinstance(teacher, Taught):
        found = {"taught": as_data(teacher.recipe), "data": teacher.data.digest()}
    if isinstance(teacher, Guided | Taught) and teacher.guidance is not None:
        found["guidance"] = as_data(teacher.guidance)
    return found
