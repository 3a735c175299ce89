"""Runs: folders that hold what a task has learned, started and found again; what has changed since."""

import dataclasses
import datetime
import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pplemd.devices import ONE, Devices, led
from pplemd.errors import CheckpointError, DeviceError, PplemdError
from pplemd.runs.declared import Declared, configuration, declare, environment
from pplemd.storage.checkpoints import digest_of_file
from pplemd.storage.folder import RunFolder, finite, write_json

Say = Callable[[str], None]


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
    folders = [RunFolder(path) for path in parent.glob(f"{declared.folder_name}*")]
    mine = [folder for folder in folders if _is_run_of(folder, declared)]
    if not mine:
        raise CheckpointError(
            f"there is no run of {declared.path or declared.name} in {parent} to resume; leave out --resume to start "
            "one, or name its folder by --out."
        )
    return max(mine, key=lambda folder: folder.config.stat().st_mtime_ns)


def _is_run_of(folder: RunFolder, declared: Declared) -> bool:
    """Whether a folder is a run of this model; a damaged one is not."""
    try:
        known = started_from(folder)
    except CheckpointError:
        return False
    return known.path == declared.path and known.name == declared.name


def begin_or_go_on(declared: Declared, folder: RunFolder, devices: Devices, say: Say, goes_on: bool) -> None:
    """Write the configuration of a new run, or say where one goes on with other devices; for every process.

    Args:
        declared: the model.
        folder: of the run, which no other process writes to.
        devices: what it runs on.
        say: called where it goes on with other devices.
        goes_on: whether the folder held the run before, as the first process found it.

    Raises:
        CheckpointError: where the folder cannot be written, or another process has begun a run in it meanwhile.
        DeviceError: where the processes do not see the same folder.
    """

    def lead() -> None:
        if not goes_on:
            begin(declared, folder, devices)
            return
        before = folder.read_config().get("mesh", str(ONE))
        if before != str(devices):
            say(f"note: this run was started on {before}, and goes on with {devices}; its last digits may differ.")

    led(lead)
    if not folder.config.exists():
        raise DeviceError(
            f"the first process has written {folder.config}, and another does not see it. The processes of a run share "
            "its folder: choose a place on a file system that all of them see, by --out."
        )


def begin(declared: Declared, folder: RunFolder, devices: Devices = ONE) -> None:
    """Write the configuration of a new run.

    Raises:
        CheckpointError: where the folder holds a run already, or cannot be written.
    """
    if folder.config.exists():
        raise CheckpointError(
            f"{folder.path} holds a run already. Go on with it by --resume, or choose another folder by --out."
        )
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write_json(folder.config, {**configuration(declared), "mesh": str(devices), "started": started})


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a run's config.json says it was started from.

    Attributes:
        path: the model file, or None for a model in Python.
        sha256: the file's digest.
        modules: the digests of what it imports from its folder.
        name: the model's name.
        overrides: the changes to its numbers.
        teacher: the checkpoint of its teacher, or None where the model has a teacher of its own.
        teacher_sha256: the checkpoint's digest.
    """

    path: Path | None
    sha256: str | None
    modules: dict[str, str]
    name: str
    overrides: tuple[str, ...]
    teacher: Path | None
    teacher_sha256: str | None


def started_from(folder: RunFolder) -> Origin:
    """What a run was started from.

    Raises:
        CheckpointError: where the folder is no run, or its config.json is damaged.
    """
    config = folder.read_config()
    if "recipe" in config:
        raise CheckpointError(
            f"{folder.path} was made by an earlier version of pplemd, whose recipes are now em.Training and an "
            "algorithm (docs/changelog.md says which number went where). The run is left as it is: read it with the "
            f"version that made it{_version(config)}, or train it again."
        )
    try:
        known, overrides = config["model"], tuple(str(change) for change in config["overrides"])
        path = None if known["path"] is None else Path(known["path"])
        taught = config.get("teacher", {})
        teacher = Path(taught["path"]) if "imported" in taught else None
        modules = {str(name): str(found) for name, found in known.get("modules", {}).items()}
        return Origin(path, known["sha256"], modules, str(known["name"]), overrides, teacher, taught.get("sha256"))
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder.config} lacks {error}; it was not written by pplemd distill.") from error


def declared_again(folder: RunFolder, model_file: Path | None, say: Say) -> Declared:
    """The model that a run was started with, loaded from its file.

    Args:
        folder: the run.
        model_file: another place of the model file; by default where it was.
        say: called where the file has changed since.

    Raises:
        CheckpointError: where the file is gone, or the teacher's checkpoint is gone or another.
    """
    known = started_from(folder)
    path = model_file or known.path
    if path is None:
        raise CheckpointError(
            f"the run {folder.path} was made from a model in Python. Give a file that declares it with --model FILE."
        )
    if not path.is_file():
        raise CheckpointError(
            f"the run {folder.path} was made from {path}, which is gone. Give its new place with --model FILE."
        )
    declared = declare(path, known.name, known.overrides, known.teacher)
    check_mode(declared, folder)
    check_teacher(declared, folder, known.teacher_sha256)
    for file in _changed(declared, known.sha256, known.modules):
        say(f"note: {file} has changed since the run {folder.path} was started.")
    return declared


def _changed(declared: Declared, sha256: str | None, modules: dict[str, str]) -> list[Path]:
    """The model file, and files that it imports from its folder, where they are no longer what a run began with."""
    if declared.path is None or sha256 is None:
        return []
    own = [declared.path] if sha256 != declared.digest else []
    found = declared.modules
    return own + [declared.path.parent / name for name in sorted(modules) if found.get(name) != modules[name]]


def check_teacher(declared: Declared, folder: RunFolder, sha256: str | None) -> None:
    """See that the checkpoint of a run's teacher, where it has one, is still there and the same.

    Raises:
        CheckpointError: where it is not.
    """
    teacher = declared.task.imported
    if teacher is None:
        return
    if teacher.path is None or not teacher.path.exists():
        raise CheckpointError(
            f"the run {folder.path} has the teacher {teacher.path}, which is gone. Put it back, or say where it is: "
            f"pplemd distill {shlex.quote(str(declared.path))} --out {shlex.quote(str(folder.path))} --resume "
            "--teacher PATH"
        )
    if teacher.checkpoint().sha256() != sha256:
        raise CheckpointError(
            f"the run {folder.path} was started with another teacher than {teacher.path} is now (SHA-256 {sha256}). "
            "Restore it, or start a new run with another --out."
        )


def moved_teacher(declared: Declared, folder: RunFolder) -> None:
    """Write down where the teacher of a run is now, after it was seen to be the same.

    Raises:
        CheckpointError: where config.json cannot be written.
    """
    if declared.task.imported is not None:
        config = folder.read_config()
        place = {**config["teacher"], "path": str(declared.task.imported.path)}
        write_json(folder.config, {**config, "teacher": place})


def check_mode(declared: Declared, folder: RunFolder) -> None:
    """See that a fit is read in the mode, of 32 bits or 64, that it was made in.

    Raises:
        CheckpointError: where JAX is in the other.
    """
    then, now = (found.get("bits", "32") for found in (folder.read_config().get("environment", {}), environment()))
    if not declared.task.single and then != now:
        switch = "Set JAX_ENABLE_X64=1" if then == "64" else "Leave JAX_ENABLE_X64 (or numpyro.enable_x64()) out"
        raise CheckpointError(
            f"the fit {folder.path} was made in JAX's {then}-bit mode, and JAX is in its {now}-bit mode; expected the "
            f"same. {switch}."
        )


def check_same(declared: Declared, folder: RunFolder, say: Say) -> None:
    """See that a run that is resumed would be the same run.

    Args:
        declared: the model of today.
        folder: the run.
        say: called where the machine or a library is another, so that the figures may differ in their last digits.

    Raises:
        CheckpointError: where its file, its numbers or its teacher's data has changed.
    """
    then, now = folder.read_config(), json.loads(json.dumps(finite(configuration(declared))))
    check_mode(declared, folder)
    known = started_from(folder)
    if changed := _changed(declared, known.sha256, known.modules):
        raise CheckpointError(
            f"{changed[0]} has changed since the run {folder.path} was started, so going on would not be the same "
            "run. Restore the file, or start a new run with another --out."
        )
    for part in (*declared.task.numbers, "teacher", "data"):
        if _differ(then.get(part), now.get(part)):
            raise CheckpointError(
                f"the {part} has changed since the run {folder.path} was started, so going on would not be the same "
                "run. Restore what the model is made of, or start a new run with another --out."
            )
    differing = [name for name, value in now["environment"].items() if then.get("environment", {}).get(name) != value]
    if differing:
        say(f"note: this run was started with another {' and '.join(differing)}; its last digits may differ.")


def _differ(then: Any, now: Any) -> bool:
    """Whether what a run is made of has changed; a teacher may be moved, and older runs do not hold its numbers."""
    if not isinstance(then, dict) or not isinstance(now, dict):
        return bool(then != now)
    looked_at = (then.keys() | now.keys()) - {"path"} - ({"arrays"} - then.keys())
    return any(name not in then or name not in now or then[name] != now[name] for name in looked_at)


def _version(config: dict[str, Any]) -> str:
    """The version that made a run, in brackets, where it is known."""
    environment = config.get("environment")
    found = environment.get("pplemd") if isinstance(environment, dict) else None
    return f" ({found})" if isinstance(found, str) else ""


SHORT = 12  # letters of a SHA-256 that are shown
LIBRARIES = ("pplemd", "equinox", "numpyro")  # another version of which may build other arrays from the same file


@contextmanager
def noted_changes(folder: RunFolder, model_file: Path | None) -> Iterator[None]:
    """In a `with` block that reads a run, a mistake gets a note of what has changed since the run was started.

    Args:
        folder: the run.
        model_file: the model file where it is another than the run's own.
    """
    try:
        yield
    except PplemdError as error:
        found = _changes(folder, model_file)
        if found:
            error.add_note(
                f"Since the run was started: {'; '.join(found)}. The run is left as it is. Read it by the model file "
                "as it was, put back or given (with the files beside it that it imports) by --model, as in\n"
                f"    pplemd sample {shlex.quote(str(folder.path))} --model OLD_FILE.py"
            )
        raise


def _changes(folder: RunFolder, model_file: Path | None) -> list[str]:
    """A phrase for each file and library that is no longer what the run was started with."""
    try:
        known = started_from(folder)
        packages = folder.read_config().get("packages")
    except PplemdError:
        return []
    path = model_file or known.path
    files = {} if path is None else {path: known.sha256, **{path.parent / n: d for n, d in known.modules.items()}}
    found = [f"{file} {how}" for file, sha256 in files.items() if (how := _how_changed(file, sha256)) is not None]
    return found + _libraries(packages if isinstance(packages, dict) else {})


def _how_changed(file: Path, then: str | None) -> str | None:
    if then is None:
        return None
    try:
        now = digest_of_file(file)
    except OSError:
        return "is gone"
    return None if now == then else f"has changed (SHA-256 {then[:SHORT]}... then, {now[:SHORT]}... now)"


def _libraries(then: dict[str, Any]) -> list[str]:
    return [
        f"{name} was {then[name]}, and is {now}"
        for name in LIBRARIES
        if name in then and (now := _installed(name)) != then[name]
    ]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "gone"
