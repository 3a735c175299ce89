"""Where the runs come from: the command that makes each again, and the machine and versions that it was made on."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

from pplemd.report.numbers import value
from pplemd.report.page_parts import Table
from pplemd.report.subject import Subject
from pplemd.storage.run_reader import dig

MOST = 60


def origin(subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """A column for each run whose configuration is known."""
    return [
        {"subject": one, "command": command(one), "versions": installation(one), "facts": _facts(one)}
        for one in subjects
        if one.run_record.config
    ]


def command(subject: Subject) -> str | None:
    """The command that makes a run again; None where its model was declared in Python, or is not known."""
    config = subject.run_record.config
    path, name = dig(config, str, "model", "path"), dig(config, str, "model", "name")
    if path is None:
        return None
    parts = ["pplemd", "fit" if subject.of_fit else "distill", path]
    if name is not None:
        parts += ["--program", name]
    for change in (dig(config, list, "overrides") or [])[:MOST]:
        parts += ["--set", str(change)]
    checkpoint = dig(config, str, "teacher", "path")
    if checkpoint is not None:
        parts += ["--teacher", checkpoint]
    return " ".join(shlex.quote(part) for part in [*parts, "--out", f"{subject.run_record.path}-again"])


def installation(subject: Subject) -> str | None:
    """The command that installs the versions of a run again; None where they are not known."""
    found = list((dig(subject.run_record.config, dict, "packages") or {}).items())[:MOST]
    pinned = [f"{name}=={version}" for name, version in found]
    if not pinned or not all(re.fullmatch(r"[\w.-]+==[\w.+!]+", one, re.ASCII) and one[0] != "-" for one in pinned):
        return None
    return " ".join(["pip install", *pinned])


def _facts(subject: Subject) -> Table:
    """Seed, digests, the machine and its versions."""
    config = subject.run_record.config
    facts = {
        "seed": dig(config, int, "training", "seed"),
        "model file, SHA-256": dig(config, str, "model", "sha256"),
        "teacher, SHA-256": dig(config, str, "teacher", "sha256"),
        "data": config.get("data") or dig(config, str, "teacher", "data"),
        "started": config.get("started"),
    }
    environment = dig(config, dict, "environment") or {}
    facts |= {str(name): one for name, one in list(environment.items())[:MOST]}
    rows = [[name, value(one)] for name, one in facts.items() if one is not None]
    return Table(["", ""], rows, "facts-table")
