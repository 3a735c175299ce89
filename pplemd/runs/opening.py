"""The start of a run: a model with its changes, and its folder, new or found again; for all processes alike."""

import dataclasses
from pathlib import Path
from typing import Any

from pplemd.devices import first, led
from pplemd.errors import DeviceError, RecipeError
from pplemd.report.progress import AbstractReporter
from pplemd.runs import record
from pplemd.runs.declared import GIVEN, Declared, declare, declare_value
from pplemd.storage.folder import RunFolder
from pplemd.tasks.base import AbstractTask

PARENT = Path("runs")  # of the run folders that are not named


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What a run is started with besides the model file.

    Attributes:
        name: which task of the file, where it holds several.
        overrides: changes to its numbers.
        teacher: the checkpoint of its teacher, where its user brings it.
        command: the command that is to train it; None for any.
    """

    name: str | None
    overrides: tuple[str, ...] = ()
    teacher: Path | None = None
    command: str | None = None


def opened(
    model: AbstractTask | Path | str,
    out: Path | str | None,
    options: RunOptions,
    resume: bool,
    reporter: AbstractReporter,
) -> tuple[Declared, RunFolder]:
    """The model and its run folder, new or found again.

    Args:
        model: a task, or the path of a file that declares one.
        out: the run folder; by default a new one, or the newest where the run is resumed.
        options: what else was given.
        resume: whether to go on.
        reporter: says where there is nothing to go on with.

    Raises:
        PplemdError: where task, numbers or folder cannot be used.
    """
    found: list[tuple[Declared, RunFolder]] = []

    def lead() -> dict[str, Any]:
        found.append(_opened(model, out, options, resume, reporter))
        return _facts(*found[0])

    facts = led(lead)
    return found[0] if first() else _followed(model, options, facts)


def _facts(declared: Declared, folder: RunFolder) -> dict[str, Any]:
    """What the first process tells the others of a run."""
    imported = declared.task.imported
    teacher = None if imported is None or imported.path is None else str(imported.path)
    return {
        "folder": str(folder.path.absolute()),
        "name": declared.name,
        "overrides": list(declared.overrides),
        "teacher": teacher,
        "digest": declared.digest,
        "modules": declared.modules,
    }


def _followed(
    model: AbstractTask | Path | str, options: RunOptions, facts: dict[str, Any]
) -> tuple[Declared, RunFolder]:
    """The model and the run folder of the first process, in another one.

    Raises:
        DeviceError: where its model file is another.
    """
    teacher = None if facts["teacher"] is None else Path(facts["teacher"])
    name = options.name if isinstance(model, AbstractTask) else facts["name"]
    declared = _declared(model, RunOptions(name, tuple(facts["overrides"]), teacher, options.command))
    if (declared.digest, declared.modules) != (facts["digest"], facts["modules"]):
        raise DeviceError(
            f"{declared.path}, or a file that it imports from its folder, is another here than in the first process. "
            "All processes of a run read the same model file: put it where all of them see it."
        )
    return declared, RunFolder(facts["folder"])


def _opened(
    model: AbstractTask | Path | str,
    out: Path | str | None,
    options: RunOptions,
    resume: bool,
    reporter: AbstractReporter,
) -> tuple[Declared, RunFolder]:
    named = None if out is None else RunFolder(out)
    if named is not None and not (named.config.exists() if resume else named.is_run):
        named.see_it_is_free()
    if named is not None and resume and not named.config.exists():
        reporter.say(f"{named.path} holds no run yet; starting one.")
        return _declared(model, options), named
    if not resume:
        declared = _declared(model, options)
        folder = named or record.new_folder(declared, PARENT)
        if folder.config.exists():
            record.begin(declared, folder)  # says that the folder is taken
        return declared, folder
    requested = tuple(one for one in options.overrides if one.startswith(GIVEN))
    folder = named or record.newest_folder(
        _declared(model, RunOptions(options.name, requested, None, options.command)), PARENT
    )
    return _again(model, options, folder, reporter), folder


def _declared(model: AbstractTask | Path | str, options: RunOptions) -> Declared:
    if isinstance(model, AbstractTask):
        declared = declare_value(model, options.overrides, options.teacher)
    else:
        declared = declare(Path(model), options.name, options.overrides, options.teacher)
    if options.command is not None:
        declared.task.refuse_command(options.command, declared.name, declared.path)
    return declared


def _again(
    model: AbstractTask | Path | str,
    options: RunOptions,
    folder: RunFolder,
    reporter: AbstractReporter,
) -> Declared:
    """The model of a run that is resumed: the same, with the same changes."""
    known, overrides = record.started_from(folder), options.overrides
    if set(overrides) - set(known.overrides):
        raise RecipeError(
            f"a run that is resumed keeps its numbers; {folder.path} was started with "
            f"{', '.join(known.overrides) or 'no changes'}, and {', '.join(overrides)} was asked for. "
            "Leave --set, --steps and --seed out, or start a new run with another --out."
        )
    of_file = not isinstance(model, AbstractTask)
    if of_file and options.name is not None and options.name != known.name:
        raise RecipeError(
            f"{folder.path} is a run of {known.name}, and {options.name} was asked for; expected the same. Leave "
            "--program out, or start a new run with another --out."
        )
    name = options.name or (known.name if of_file else None)
    declared = _declared(model, RunOptions(name, known.overrides, options.teacher or known.teacher, options.command))
    record.check_teacher(declared, folder, known.teacher_sha256)
    record.check_same(declared, folder, reporter.say)
    if options.teacher is not None:
        record.moved_teacher(declared, folder)
    return declared
