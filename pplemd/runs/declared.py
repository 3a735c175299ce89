"""A model with its name, its file and the changes that were asked for: what a run is started from."""

import dataclasses
import importlib.metadata
import platform
import re
import shlex
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from pplemd.dsl import load_file, select, siblings
from pplemd.errors import ProgramError, RecipeError
from pplemd.importers import Imported
from pplemd.learning import Taught
from pplemd.storage.digests import digest, digest_of_file
from pplemd.tasks.double_precision import narrowed, single, wide
from pplemd.tasks.fits import Fit, data_digest, plan_fit
from pplemd.tasks.model import Model
from pplemd.tasks.override import as_data, override
from pplemd.teachers import AbstractTeacher, guidance_of

TEACHER = "teacher."  # what a change of the teacher's recipe begins with
GIVEN = "given."  # what a value for the model file itself begins with


@dataclasses.dataclass(frozen=True)
class Declared:
    """A model or a fit as it was declared, its recipe with the changes that were asked for.

    Attributes:
        path: the model file, or None where the model was declared in Python.
        name: the model's name.
        model: the model or the fit, with the recipe that is used.
        overrides: the changes to its recipe, as `path=value`.
        narrowed: whether JAX's 64-bit mode was on and is off now, since a model is distilled in 32 bits.
    """

    path: Path | None
    name: str
    model: Model | Fit
    overrides: tuple[str, ...]
    narrowed: bool = False

    @property
    def distilled_model(self) -> Model:
        """The model, where it has a teacher to distil.

        Raises:
            ProgramError: where it is a fit.
        """
        if isinstance(self.model, Fit):
            raise ProgramError(
                f"{self.name} is an em.Fit: a program that observes data, without a teacher; expected an em.Model. "
                f"Fit it: pplemd fit {shlex.quote(str(self.path or self.name))}"
            )
        return self.model

    @property
    def fit(self) -> Fit:
        """The fit, where it is one.

        Raises:
            ProgramError: where it is a model that has a teacher.
        """
        if isinstance(self.model, Model):
            raise ProgramError(
                f"{self.name} is an em.Model, whose program is distilled from a teacher; expected an em.Fit, whose "
                f"program observes data. Distil it: pplemd distill {shlex.quote(str(self.path or self.name))}"
            )
        return self.model

    @property
    def imported(self) -> Imported | None:
        """Its teacher, where it is one that the user brings."""
        teacher = self.model.teacher if isinstance(self.model, Model) else None
        return teacher if isinstance(teacher, Imported) else None

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
    def alike(self) -> str:
        """What runs that compile the same have in common, as far as it is known before anything is traced."""
        return repr((None if self.path is None else str(self.path.resolve()), self.name, self.overrides))

    @property
    def folder_name(self) -> str:
        """A name for its run folders: the file's, with the model's where that differs."""
        if self.path is None or self.name == self.path.stem:
            return self.name
        return f"{self.path.stem}-{self.name}"


def declare(
    path: Path, name: str | None = None, overrides: tuple[str, ...] = (), teacher: Path | None = None
) -> Declared:
    """Load a model file and pick a model, or a fit, of it.

    Args:
        path: the model file; it is executed: it is code.
        name: which of its models; may be None where there is one.
        overrides: changes to its recipe, `path=value`; to a taught teacher's, `teacher.path=value`; what the file asks
            for by `em.given`, `given.name=value`.
        teacher: the checkpoint of a teacher that its user brings.

    Raises:
        ProgramError: where the file does not load or holds no such model.
        RecipeError: where an override does not fit, or the model has a teacher of its own.
    """
    given = dict(one.removeprefix(GIVEN).split("=", 1) for one in overrides if one.startswith(GIVEN) and "=" in one)
    found, model = select(load_file(path, given), (Model, Fit), name)
    rest = tuple(one for one in overrides if not one.startswith(GIVEN) or "=" not in one)
    return _settled(Declared(path.absolute(), found, changed(with_teacher(model, teacher), rest), overrides))


def declare_value(model: Model | Fit, overrides: tuple[str, ...] = (), teacher: Path | None = None) -> Declared:
    """A model or a fit that was declared in Python, without a file.

    Raises:
        RecipeError: where an override does not fit.
    """
    return _settled(Declared(None, "model", changed(with_teacher(model, teacher), overrides), overrides))


def _settled(declared: Declared) -> Declared:
    """A model in JAX's 32-bit mode from here on; a fit in whatever mode JAX is in."""
    if isinstance(declared.model, Fit):
        return declared
    if not single():
        return declared
    return dataclasses.replace(declared, narrowed=True, model=narrowed(declared.model))


def with_teacher(model: Model | Fit, path: Path | None) -> Model | Fit:
    """A model with the checkpoint of its teacher, where there is one.

    Raises:
        RecipeError: where the model has a teacher of its own, or is a fit.
    """
    if path is None:
        return model
    if isinstance(model, Fit):
        raise RecipeError(f"--teacher {path}: an em.Fit learns from data and has no teacher. Leave --teacher out.")
    if not isinstance(model.teacher, Imported):
        raise RecipeError(
            f"--teacher {path}: this model has a teacher of its own, so it takes none. Leave --teacher out, or declare "
            "the model's teacher as em.imported(hint)."
        )
    return dataclasses.replace(model, teacher=model.teacher.at(path.absolute()))


def changed(model: Model | Fit, overrides: tuple[str, ...]) -> Model | Fit:
    """A model or a fit with some fields of its recipe, and of its teacher's, replaced.

    Raises:
        RecipeError: where an override does not fit.
    """
    if isinstance(model, Fit):
        return dataclasses.replace(model, recipe=override(model.recipe, overrides))
    own = [change for change in overrides if not change.startswith(TEACHER)]
    teachers = [change for change in overrides if change.startswith(TEACHER)]
    model = dataclasses.replace(model, recipe=override(model.recipe, own))
    if not teachers:
        return model
    if not isinstance(model.teacher, Taught):
        raise RecipeError(f"--set {teachers[0]}: this model's teacher is not taught, so it has no recipe to set.")
    recipe = override(model.teacher.recipe, teachers, TEACHER)
    return dataclasses.replace(model, teacher=dataclasses.replace(model.teacher, recipe=recipe))


def configuration(declared: Declared) -> dict[str, Any]:
    """What a run is started from, as JSON data."""
    path = None if declared.path is None else str(declared.path)
    modules = declared.modules
    model = {"path": path, "sha256": declared.digest, "name": declared.name}
    return {
        "model": model | ({"modules": modules} if modules else {}),
        "overrides": list(declared.overrides),
        "recipe": as_data(declared.model.recipe),
        **_learned_from(declared.model),
        "environment": environment(),
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """The installed versions of what pplemd stands on, so that the environment can be made again."""
    asked = [one for one in importlib.metadata.requires("pplemd") or () if "extra ==" not in one]
    names = [re.split(r"[^\w.-]", one, maxsplit=1)[0] for one in asked]
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


def _learned_from(model: Model | Fit) -> dict[str, Any]:
    if isinstance(model, Fit):
        return {"data": data_digest(plan_fit(model))}
    return {"teacher": _teacher(model.teacher)}


def _teacher(teacher: AbstractTeacher | Taught | Imported) -> dict[str, Any]:
    if isinstance(teacher, Imported):
        read = teacher.checkpoint()
        return {"imported": read.architecture, "sha256": read.sha256(), "path": str(teacher.path)}
    found: dict[str, Any]
    if isinstance(teacher, Taught):
        found, guidance = {"taught": as_data(teacher.recipe), "data": teacher.data.digest()}, teacher.guidance
    else:
        found = {"ready": type(teacher).__name__, "arrays": digest(eqx.filter(teacher, eqx.is_array))}
        guidance = guidance_of(teacher)
    return found if guidance is None else {**found, "guidance": as_data(guidance)}
