"""pplemd inspect: the plan of a model file, without running it."""

from typing import Any

from rich.console import Console
from rich.table import Table

from pplemd_cli import options, show


def inspect(
    model: options.ModelFile,
    program: options.ProgramName = None,
    overrides: options.Overrides = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Print what a model file would do: sites, teacher, networks, recipe, memory and cost of a step.

    The program is traced, and its step compiled, but nothing is trained or drawn.

    For example:

        pplemd inspect models/digits.py

        pplemd inspect models/digits.py --set batch=512
    """
    options.prepare(device, debug)
    from pplemd.inspection import describe
    from pplemd.model import plan
    from pplemd.runs.declared import declare
    from pplemd.viewing.progress import Terminal

    declared = declare(model, program, tuple(overrides or ()))
    with Terminal().task("compile", 1.0) as task:
        found = {"model": declared.name, **describe(plan(declared.model))}
        task.to(1.0)
    if json:
        show.as_json(found)
    else:
        _print(found)


def _print(plan: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(f"[bold]{plan['model']}[/bold]: program {plan['program']}, teacher {_teacher(plan['teacher'])}\n")
    console.print(_sites(plan))
    console.print(_networks(plan["networks"]))
    console.print(_recipe("recipe  [not bold](change a field by --set PATH=VALUE)", plan["recipe"], ""))
    if "recipe" in plan["teacher"]:
        console.print(_recipe("teacher's recipe", plan["teacher"]["recipe"], "teacher."))
    _print_cost(console, plan)


def _sites(plan: dict[str, Any]) -> Table:
    table = show.table("sites", "site", "distribution", "shape", "depends on", "parameterization")
    for site in plan["sites"]:
        depends = site["depends_on"] + ["networks"] * site["learned"] + ["label"] * site["labelled"]
        free = ", may be chosen" if site["eligible"] else ""
        cells = (site["distribution"], _shape(site["shape"]), ", ".join(depends) or "-")
        table.add_row(site["name"], *cells, site["parameterization"] + free)
    output = plan["output"]
    depends = output["depends_on"] + ["label"] * output["labelled"]
    table.add_row(output["name"], "generated", _shape(output["shape"]), ", ".join(depends), "")
    return table


def _networks(networks: dict[str, int]) -> Table:
    table = show.table("networks", "network", "parameters")
    table.columns[1].justify = "right"
    for name, count in networks.items():
        table.add_row(name, f"{count:,}")
    return table


def _recipe(title: str, recipe: dict[str, Any], prefix: str) -> Table:
    """A row for each record of the recipe, with the path that --set takes."""
    table = show.table(title, "path", "type", "fields")
    for path, record in _records(recipe, ""):
        fields = {name: value for name, value in record.items() if name != "type" and not isinstance(value, dict)}
        shown = "  ".join(f"{name}={_value(value)}".replace(" ", "\u00a0") for name, value in fields.items())
        table.add_row(f"{prefix}{path}".rstrip("."), record["type"], shown or "-")
    return table


def _records(record: dict[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    found = [(path, record)]
    for name, value in record.items():
        if isinstance(value, dict):
            found += _records(value, f"{path}.{name}".lstrip("."))
    return found


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_value(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _print_cost(console: Console, plan: dict[str, Any]) -> None:
    memory, cost = plan["memory"], plan["cost"]
    temporary = "unknown" if memory["temporary_bytes"] is None else show.size(memory["temporary_bytes"])
    steps, chains, length = plan["recipe"]["steps"], cost["chains"], cost["kernel_steps_per_chain"]
    console.print(f"[bold]memory[/bold]  {show.size(memory['held_bytes'])} held, {temporary} more during a step")
    console.print(
        f"[bold]cost[/bold]    {_operations(cost['flops_per_step'])} a step, "
        f"{_operations(steps * cost['flops_per_step'])} in all {steps:,}; a step is {_many(chains, 'chain')} of "
        f"{_many(length, 'kernel step')}, {_many(cost['score_updates'], 'score update')} and a generator update"
    )


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _operations(count: float) -> str:
    for unit in ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} EFLOP"


def _teacher(teacher: dict[str, Any]) -> str:
    labels = "" if teacher["classes"] is None else f", {teacher['classes']} classes"
    taught = teacher.get("taught_on")
    data = "" if taught is None else f", taught on {taught['train']:,} samples ({taught['held_out']:,} held out)"
    guidance = f", guided by {teacher['guidance']['scale']:g}" if "guidance" in teacher else ""
    return f"{teacher['type']} of shape {_shape(teacher['shape'])}{labels}{guidance}{data}"


def _shape(shape: list[int]) -> str:
    return " x ".join(str(size) for size in shape) or "scalar"
