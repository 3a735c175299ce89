"""What has changed since a run was started, said where it can no longer be read: the run itself is whole."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pplemd.errors import PplemdError
from pplemd.runs.record import started_from
from pplemd.storage.digests import digest_of_file
from pplemd.storage.folder import RunFolder

SHORT = 12  # letters of a SHA-256 that are told
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
    found = [f"{file} {how}" for file, sha256 in files.items() if (how := _changed(file, sha256)) is not None]
    return found + _libraries(packages if isinstance(packages, dict) else {})


def _changed(file: Path, then: str | None) -> str | None:
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
        if name in then and (now := _version(name)) != then[name]
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "gone"
