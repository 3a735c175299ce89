"""The head and the foot of the page: which runs, how far; the commands and machines that they come from."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

from pplemd.report.glossary import UNIMPORTANT, figure_title, number, value
from pplemd.report.page_parts import Table
from pplemd.report.subject import Subject
from pplemd.storage.folder import dig

TILES = 4
Tile = tuple[str, str, str]  # title, figure, what stands below


def card(subject: Subject) -> dict[str, Any]:
    """What is said of a run first."""
    config = subject.run_record.config
    parts = dict.fromkeys((dig(config, str, "environment", "device") or "").split(": "))
    device = ": ".join(parts) or None
    facts = [
        subject.state,
        f"seed {value(dig(config, int, 'training', 'seed'))}",
        device,
        _started(dig(config, str, "started")),
    ]
    model = dig(subject.run_record.config, str, "model", "name")
    kind = f"{'fit' if subject.of_fit else 'distillation'}{f' of {model}' if model else ''}"
    return {"subject": subject, "kind": kind, "facts": list(filter(None, facts)), "tiles": _tiles(subject)}


def _started(text: str | None) -> str | None:
    return None if text is None else f"started {text[:16].replace('T', ' ')} UTC"


def _tiles(subject: Subject) -> list[Tile]:
    tiles = [_fitted(subject)] if subject.of_fit else [_figure(subject, name) for name in _important(subject)]
    alarms = len({name for line in subject.run_record.lines for name in line.alarms})
    if subject.run_record.lines:
        tiles.append(("Alarms", str(alarms), "of different kinds" if alarms else "none was raised"))
    return tiles


def _important(subject: Subject) -> list[str]:
    return [name for name in subject.scored if name not in UNIMPORTANT][: TILES - 1] + [
        name for name in subject.scored if name == "seconds_per_1000"
    ]


def _figure(subject: Subject, name: str) -> Tile:
    """A figure of the student, the teacher's and that of real samples below it."""
    student, teacher, floor = (subject.score(who, name) for who in ("student", "teacher", "floor"))
    compared = [("teacher", teacher), ("real", floor)]
    below = " · ".join(f"{who} {number(x)}" for who, x in compared if x is not None)
    return figure_title(name), number(student), below


def _fitted(subject: Subject) -> Tile:
    found = subject.run_record.evaluation
    estimate = dig(found, float, "log_marginal", "value")
    return "log p(y)", number(estimate), "" if estimate is None else subject.marginal_error


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
