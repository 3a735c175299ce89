"""What the runs are: sites, teacher, networks, cost and recipe; of several, where they differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from pplemd.report.layout import folded, named, section
from pplemd.report.markup import Child, Element, element, table, words
from pplemd.report.numbers import number, operations, shape, size, value
from pplemd.report.subject import Subject
from pplemd.storage.run_reader import dig

MOST_ROWS, DEEPEST, FEW = 80, 12, 16
DIGEST, LONGEST = 12, 80  # characters of a digest, and of a value beside others


def plans(subjects: Sequence[Subject]) -> Element | None:
    """What differs between the runs, then the plan of each."""
    blocks = [_plan(subject) for subject in subjects]
    if len(subjects) == 1:
        return section("plan", "Plan", *blocks[0]) if blocks[0] else None
    each = [folded(named(subject), *block) for subject, block in zip(subjects, blocks, strict=True) if block]
    return section("plan", "Plan", words("h3", "What differs"), _differences(subjects), words("h3", "Each plan"), *each)


def flat(record: Any, path: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested records as one, by paths such as chain.kernel.step_size, which --set takes."""
    if not isinstance(record, dict) or depth > DEEPEST:
        return {path: record}
    found: dict[str, Any] = {}
    for name, one in record.items():
        found |= flat(one, f"{path}.{name}".lstrip("."), depth + 1)
    return found


def _differences(subjects: Sequence[Subject]) -> Element:
    records = [_compared(subject) for subject in subjects]
    paths = list(dict.fromkeys(path for record in records for path in record))
    paths.sort(key=lambda path: sum(path not in record for record in records))  # what all have comes first
    rows: list[list[Child]] = []
    for path in paths:
        cells = [_short(path, record[path]) if path in record else "-" for record in records]
        if len(set(cells)) > 1:
            rows.append([path, *cells])
    if not rows:
        return words("p", "Nothing: the same model and recipe, on the same machine and versions.", "says")
    rest = rows[FEW:MOST_ROWS]
    more = folded(f"{len(rest)} more", _beside(subjects, rest)) if rest else None
    return element("div", {"class": "column"}, _beside(subjects, rows[:FEW]), more)


def _beside(subjects: Sequence[Subject], rows: Sequence[Sequence[Child]]) -> Element:
    """Rows with a column for each run."""
    return table(["", *map(named, subjects)], rows)


def _short(path: str, found: Any) -> str:
    """A value for a narrow column; of a digest its beginning."""
    return value(found)[: DIGEST if path.endswith(("sha256", ".data")) else LONGEST]


def _compared(subject: Subject) -> dict[str, Any]:
    config = subject.remains.config
    networks = {
        f"parameters of {name}": count for name, count in (dig(subject.exhibits.plan, dict, "networks") or {}).items()
    }
    model = {f"model.{name}": dig(config, str, "model", name) for name in ("name", "path", "sha256")}
    parts = {name: dig(config, dict, name) or {} for name in ("recipe", "teacher", "environment")}
    return {
        **model,
        **networks,
        **flat(parts["recipe"]),
        **{f"teacher.{path}": one for path, one in flat(parts["teacher"]).items()},
        **{f"environment.{path}": one for path, one in flat(parts["environment"]).items()},
    }


def _plan(subject: Subject) -> list[Child]:
    plan, config = subject.exhibits.plan, subject.remains.config
    recipe = dig(config, dict, "recipe")
    found: list[Child] = []
    if plan is not None:
        found += [_sentence(plan), _sites(plan), _networks(plan), _cost(plan)]
    if recipe is not None:
        found.append(folded("Recipe", _recipe(recipe, _changed(config), "")))
    taught = dig(config, dict, "teacher", "taught")
    if taught is not None:
        found.append(folded("The teacher's recipe", _recipe(taught, _changed(config), "teacher.")))
    return found


def _changed(config: Mapping[str, Any]) -> set[str]:
    """Paths that --set changed."""
    return {one.split("=", 1)[0] for one in dig(config, list, "overrides") or [] if isinstance(one, str)}


def _sentence(plan: Mapping[str, Any]) -> Element:
    teacher, output = plan.get("teacher"), plan.get("output")
    beside = "fitted to what it observes"
    if isinstance(teacher, dict):
        data = teacher.get("taught_on")
        taught = f", taught on {number(dig(data, float, 'train'))} samples" if data else ""
        brought = f", from {teacher['imported']}" if teacher.get("imported") else ""
        guided = f", guided by {value(dig(teacher, dict, 'guidance'))}" if "guidance" in teacher else ""
        beside = f"teacher {value(teacher.get('type'))} of shape {shape(teacher.get('shape'))}{taught}{brought}{guided}"
    makes = (
        f" generates {value(output.get('name'))} of shape {shape(output.get('shape'))}"
        if isinstance(output, dict)
        else ""
    )
    return words("p", f"Program {value(plan.get('program'))}{makes}; {beside}.")


def _sites(plan: Mapping[str, Any]) -> Element | None:
    rows: list[list[Child]] = []
    for site in plan.get("sites") or ():
        depends = [*site["depends_on"], *["networks"] * site["learned"], *["label"] * site["labelled"]]
        placed = site["parameterization"] if site["centered"] == "auto" else f"centered {value(site['centered'])}"
        rows.append([site["name"], site["distribution"], shape(site["shape"]), ", ".join(depends) or "-", placed])
    for site in plan.get("observed") or ():
        rows.append(
            [site["name"], site["distribution"], shape(site["shape"]), ", ".join(site["depends_on"]) or "-", "observed"]
        )
    return table(["site", "law", "shape", "depends on", "coordinates"], rows[:MOST_ROWS]) if rows else None


def _networks(plan: Mapping[str, Any]) -> Element | None:
    rows = [[name, number(count)] for name, count in (plan.get("networks") or {}).items()]
    return table(["network", "parameters"], rows, "figures") if rows else None


def _cost(plan: Mapping[str, Any]) -> Element | None:
    cost, memory = plan.get("cost"), plan.get("memory")
    if not isinstance(cost, dict) or not isinstance(memory, dict):
        return None
    parts = ", ".join(f"{name} {operations(count)}" for name, count in cost["parts"].items())
    held, more = size(memory["held_bytes"]), size(memory["temporary_bytes"])
    chains, length = cost["chains"], cost["kernel_steps_per_chain"]
    return words(
        "p",
        f"A step: {operations(cost['flops_per_step'])} ({parts}), {chains:,} chains of {length:,} kernel steps; "
        f"{held} held, {more} more meanwhile.",
        "says",
    )


def _recipe(recipe: Mapping[str, Any], changed: set[str], prefix: str) -> Element:
    """A row for each field; those that --set changed are marked."""
    rows: list[list[Child]] = []
    for path, one in list(flat(dict(recipe)).items())[:400]:
        full = prefix + path
        rows.append([words("b", f"{full} (changed)") if full in changed else full, value(one)])
    return element("div", {"class": "recipe"}, table(["field", "value"], rows))
