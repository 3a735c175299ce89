"""Where the runs come from: the command that makes each again, and the machine and versions that it was made on."""

import re
import shlex
from collections.abc import Sequence

from pplemd.report.layout import beside, section
from pplemd.report.markup import Child, Element, element, table, words
from pplemd.report.numbers import value
from pplemd.report.subject import Subject
from pplemd.storage.run_reader import dig

MOST = 60


def origin(subjects: Sequence[Subject]) -> Element | None:
    """A column for each run."""
    found = beside([(subject, _of(subject)) for subject in subjects])
    return None if found is None else section("origin", "Reproduce", found)


def command(subject: Subject) -> str | None:
    """The command that makes a run again; None where its model was declared in Python, or is not known."""
    config = subject.remains.config
    path, name = dig(config, str, "model", "path"), dig(config, str, "model", "name")
    if path is None:
        return None
    parts = ["pplemd", "fit" if subject.of_fit else "distill", path]
    if name is not None:
        parts += ["--program", name]
    for change in (dig(config, list, "overrides") or [])[:MOST]:
        parts += ["--set", str(change)]
    brought = dig(config, str, "teacher", "path")
    if brought is not None:
        parts += ["--teacher", brought]
    return " ".join(shlex.quote(part) for part in [*parts, "--out", f"{subject.remains.path}-again"])


def installation(subject: Subject) -> str | None:
    """The command that installs the versions of a run again; None where they are not known."""
    found = list((dig(subject.remains.config, dict, "packages") or {}).items())[:MOST]
    pinned = [f"{name}=={version}" for name, version in found]
    if not pinned or not all(re.fullmatch(r"[\w.-]+==[\w.+!]+", one, re.ASCII) and one[0] != "-" for one in pinned):
        return None
    return " ".join(["pip install", *pinned])


def _of(subject: Subject) -> list[Child]:
    config = subject.remains.config
    if not config:
        return []
    again = command(subject)
    told = (
        words("p", "Its model was declared in Python: there is no command.", "says")
        if again is None
        else _copied(again)
    )
    versions = installation(subject)
    facts = {
        "seed": dig(config, int, "recipe", "seed"),
        "model file, SHA-256": dig(config, str, "model", "sha256"),
        "teacher, SHA-256": dig(config, str, "teacher", "sha256"),
        "data": config.get("data") or dig(config, str, "teacher", "data"),
        "started": config.get("started"),
    }
    environment = dig(config, dict, "environment") or {}
    facts |= {str(name): one for name, one in list(environment.items())[:MOST]}
    rows = [[name, value(one)] for name, one in facts.items() if one is not None]
    return [told, None if versions is None else _copied(versions), table(["", ""], rows, "facts-table")]


def _copied(text: str) -> Element:
    """A command with a button that copies it."""
    button = element("button", {"class": "copy", "type": "button"}, "Copy")
    return element("div", {"class": "command"}, words("code", text), button)
