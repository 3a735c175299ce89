"""The start of a run: a model with its changes, and its folder, new or found again; for all processes alike."""

import dataclasses
from pathlib import Path
from typing import Any

from pplemd.devices import first, led
from pplemd.errors import DeviceError, RecipeError
from pplemd.report.reporter import AbstractNarrator
from pplemd.runs import record
from pplemd.runs.declared import GIVEN, Declared, declare, declare_value
from pplemd.storage.folder import RunFolder
from pplemd.tasks.fits import Fit
from pplemd.tasks.model import Model

PARENT = Path("runs")  # of the run folders that are not named


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What was asked for besides the model file.

    Attributes:
        name: which value of the file, where it holds several.
        overrides: changes to its recipe.
        teacher: the checkpoint of its teacher, where its user brings it.
    """

    name: str | None
    overrides: tuple[str, ...] = ()
    teacher: Path | None = None


def opened(
    model: Model | Fit | Path | str,
    out: Path | str | None,
    chosen: Chosen,
    resume: bool,
    narrator: AbstractNarrator,
) -> tuple[Declared, RunFolder]:
    """The model and its run folder, new or found again.

    Args:
        model: a model or a fit, or the path of a file that declares one.
        out: the run folder; by default a new one, or the newest where the run is resumed.
        chosen: what else was asked for.
        resume: whether to go on.
        narrator: told where there is nothing to go on with.

    Raises:
        PplemdError: where model, recipe or folder cannot be used.
    """
    found: list[tuple[Declared, RunFolder]] = []

    def lead() -> dict[str, Any]:
        found.append(_opened(model, out, chosen, resume, narrator))
        return _told(*found[0])

    told = led(lead)
    return found[0] if first() else _followed(model, chosen, told)


def _told(declared: Declared, folder: RunFolder) -> dict[str, Any]:
    """What the first process tells the others of a run."""
    brought = declared.imported
    teacher = None if brought is None or brought.path is None else str(brought.path)
    return {
        "folder": str(folder.path.absolute()),
        "name": declared.name,
        "overrides": list(declared.overrides),
        "teacher": teacher,
        "digest": declared.digest,
        "modules": declared.modules,
    }


def _followed(model: Model | Fit | Path | str, chosen: Chosen, told: dict[str, Any]) -> tuple[Declared, RunFolder]:
    """The model and the run folder of the first process, in another one.

    Raises:
        DeviceError: where its model file is another.
    """
    teacher = None if told["teacher"] is None else Path(told["teacher"])
    name = chosen.name if isinstance(model, Model | Fit) else told["name"]
    declared = _declared(model, Chosen(name, tuple(told["overrides"]), teacher))
    if (declared.digest, declared.modules) != (told["digest"], told["modules"]):
        raise DeviceError(
            f"{declared.path}, or a file that it imports from its folder, is another here than in the first process. "
            "All processes of a run read the same model file: put it where all of them see it."
        )
    return declared, RunFolder(told["folder"])


def _opened(
    model: Model | Fit | Path | str,
    out: Path | str | None,
    chosen: Chosen,
    resume: bool,
    narrator: AbstractNarrator,
) -> tuple[Declared, RunFolder]:
    named = None if out is None else RunFolder(out)
    if named is not None and not (named.config.exists() if resume else named.is_run):
        named.see_it_is_free()
    if named is not None and resume and not named.config.exists():
        narrator.say(f"{named.path} holds no run yet; starting one.")
        return _declared(model, chosen), named
    if not resume:
        declared = _declared(model, chosen)
        folder = named or record.new_folder(declared, PARENT)
        if folder.config.exists():
            record.begin(declared, folder)  # says that the folder is taken
        return declared, folder
    asked = tuple(one for one in chosen.overrides if one.startswith(GIVEN))
    folder = named or record.newest_folder(_declared(model, Chosen(chosen.name, asked)), PARENT)
    return _again(model, chosen, folder, narrator), folder


def _declared(model: Model | Fit | Path | str, chosen: Chosen) -> Declared:
    if isinstance(model, Model | Fit):
        return declare_value(model, chosen.overrides, chosen.teacher)
    return declare(Path(model), chosen.name, chosen.overrides, chosen.teacher)


def _again(
    model: Model | Fit | Path | str,
    chosen: Chosen,
    folder: RunFolder,
    narrator: AbstractNarrator,
) -> Declared:
    """The model of a run that is resumed: the same, with the same changes."""
    known, overrides = record.started_from(folder), chosen.overrides
    if set(overrides) - set(known.overrides):
        raise RecipeError(
            f"a run that is resumed keeps its recipe; {folder.path} was started with "
            f"{', '.join(known.overrides) or 'no changes'}, and {', '.join(overrides)} was asked for. "
            "Leave --set, --steps and --seed out, or start a new run with another --out."
        )
    of_file = not isinstance(model, Model | Fit)
    if of_file and chosen.name is not None and chosen.name != known.name:
        raise RecipeError(
            f"{folder.path} is a run of {known.name}, and {chosen.name} was asked for; expected the same. Leave "
            "--program out, or start a new run with another --out."
        )
    name = chosen.name or (known.name if of_file else None)
    declared = _declared(model, Chosen(name, known.overrides, chosen.teacher or known.teacher))
    record.check_teacher(declared, folder, known.teacher_sha256)
    record.check_same(declared, folder, narrator.say)
    if chosen.teacher is not None:
        record.moved_teacher(declared, folder)
    return declared
