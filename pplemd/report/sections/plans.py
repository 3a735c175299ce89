"""What the runs are: sites, teacher, networks, cost and numbers; of several, where they differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from pplemd.report.glossary import number, operations, shape, size, value
from pplemd.report.page_parts import Cell, Table
from pplemd.report.subject import Subject
from pplemd.storage.folder import dig

MOST_ROWS, DEEPEST, FEW = 80, 12, 16
DIGEST, LONGEST = 12, 80  # characters of a digest, and of a value beside others

NUMBERS = ("training", "algorithm", "diagnostics")  # parts of config.json that hold a task's numbers


def plans(subjects: Sequence[Subject]) -> dict[str, Any]:
    """What differs between the runs, and the plan of each."""
    found = [one for one in map(_plan, subjects) if one["sentence"] or one["numbers"]]
    if len(subjects) == 1:
        return {"plans": found} if found else {}
    # a row for each value that is not the same in all runs
    records = [_compared(subject) for subject in subjects]
    paths = list(dict.fromkeys(path for record in records for path in record))
    paths.sort(key=lambda path: sum(path not in record for record in records))  # what all have comes first
    rows = []
    for path in paths:
        cells = [_short(path, record[path]) if path in record else "-" for record in records]
        if len(set(cells)) > 1:
            rows.append([path, *cells])
    headings: list[str | Subject] = ["", *subjects]
    return {"differ": Table(headings, rows[:FEW]), "more": Table(headings, rows[FEW:MOST_ROWS]), "plans": found}


def flat(record: Any, path: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested records as one, by paths such as chain.kernel.step_size, which --set takes."""
    if not isinstance(record, dict) or depth > DEEPEST:
        return {path: record}
    found: dict[str, Any] = {}
    for name, one in record.items():
        found |= flat(one, f"{path}.{name}".lstrip("."), depth + 1)
    return found


def _short(path: str, found: Any) -> str:
    """A value for a narrow column; of a digest its beginning."""
    return value(found)[: DIGEST if path.endswith(("sha256", ".data")) else LONGEST]


def _compared(subject: Subject) -> dict[str, Any]:
    config = subject.run_record.config
    networks = {
        f"parameters of {name}": count
        for name, count in (dig(subject.report_data.plan, dict, "networks") or {}).items()
    }
    model = {f"model.{name}": dig(config, str, "model", name) for name in ("name", "path", "sha256")}
    parts = {name: dig(config, dict, name) or {} for name in (*NUMBERS, "teacher", "environment")}
    rest = {f"{name}.{path}": one for name, part in parts.items() for path, one in flat(part).items()}
    return {**model, **networks, **rest}


def _plan(subject: Subject) -> dict[str, Any]:
    plan, config = subject.report_data.plan, subject.run_record.config
    numbers = {name: part for name in NUMBERS if (part := dig(config, dict, name)) is not None}
    parts = {
        "Numbers": ("", numbers or None),
        "The teacher's numbers": ("teacher.", dig(config, dict, "teacher", "taught")),
    }
    changed = {one.split("=", 1)[0] for one in dig(config, list, "overrides") or [] if isinstance(one, str)}
    return {
        "subject": subject,
        "sentence": "" if plan is None else _sentence(plan),
        "tables": [] if plan is None else [_sites(plan), _networks(plan)],
        "cost": "" if plan is None else _cost(plan),
        "numbers": [
            (title, _numbers(found, changed, prefix)) for title, (prefix, found) in parts.items() if found is not None
        ],
    }


def _sentence(plan: Mapping[str, Any]) -> str:
    teacher, output = plan.get("teacher"), plan.get("output")
    source = "fitted to what it observes"
    if isinstance(teacher, dict):
        data = teacher.get("taught_on")
        taught = f", taught on {number(dig(data, float, 'train'))} samples" if data else ""
        imported = f", from {teacher['imported']}" if teacher.get("imported") else ""
        guided = f", guided by {value(dig(teacher, dict, 'guidance'))}" if "guidance" in teacher else ""
        source = (
            f"teacher {value(teacher.get('type'))} of shape {shape(teacher.get('shape'))}{taught}{imported}{guided}"
        )
    makes = (
        f" generates {value(output.get('name'))} of shape {shape(output.get('shape'))}"
        if isinstance(output, dict)
        else ""
    )
    return f"Program {value(plan.get('program'))}{makes}; {source}."


def _sites(plan: Mapping[str, Any]) -> Table:
    rows: list[list[str]] = []
    for site in plan.get("sites") or ():
        depends = [*site["depends_on"], *["networks"] * site["learned"], *["condition"] * site["conditioned"]]
        placed = site["parameterization"] if site["centered"] == "auto" else f"centered {value(site['centered'])}"
        rows.append([site["name"], site["distribution"], shape(site["shape"]), ", ".join(depends) or "-", placed])
    for site in plan.get("observed") or ():
        rows.append(
            [site["name"], site["distribution"], shape(site["shape"]), ", ".join(site["depends_on"]) or "-", "observed"]
        )
    return Table(["site", "law", "shape", "depends on", "coordinates"], rows[:MOST_ROWS])


def _networks(plan: Mapping[str, Any]) -> Table:
    rows = [[name, number(count)] for name, count in (plan.get("networks") or {}).items()]
    return Table(["network", "parameters"], rows, "figures")


def _cost(plan: Mapping[str, Any]) -> str:
    cost, memory = plan.get("cost"), plan.get("memory")
    if not isinstance(cost, dict) or not isinstance(memory, dict):
        return ""
    parts = ", ".join(f"{name} {operations(count)}" for name, count in cost["parts"].items())
    resident, more = size(memory["held_bytes"]), size(memory["temporary_bytes"])
    samples, length = cost["chains"], cost.get("kernel_steps_per_chain")
    chains = f"{samples:,} samples" if length is None else f"{samples:,} chains of {length:,} kernel steps"
    return f"A step: {operations(cost['flops_per_step'])} ({parts}), {chains}; {resident} held, {more} more meanwhile."


def _numbers(numbers: Mapping[str, Any], changed: set[str], prefix: str) -> Table:
    """A row for each field; those that --set changed are marked."""
    rows: list[list[str | Cell]] = []
    for path, one in list(flat(dict(numbers)).items())[:400]:
        full = prefix + path
        rows.append([Cell(f"{full} (changed)", bold=True) if full in changed else full, value(one)])
    return Table(["field", "value"], rows)
