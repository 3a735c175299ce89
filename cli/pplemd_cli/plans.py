"""Plans of model files, printed."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pplemd_cli import show


def planned(
    model: Path, program: str | None, overrides: tuple[str, ...], teacher: Path | None, *, compiled: bool
) -> dict[str, Any]:
    """The plan of a model file as data.

    Args:
        model: the file.
        program: which of its models.
        overrides: changes to its recipe.
        teacher: the teacher's checkpoint.
        compiled: whether to compile the step; else its memory is estimated, and compared with the device's, for a
            model alone, not for a fit.
    """
    from pplemd.fits import Fit, plan_fit
    from pplemd.inspection import describe, describe_fit, device_room
    from pplemd.model import plan
    from pplemd.runs.declared import declare
    from pplemd.viewing.progress import Terminal

    declared = declare(model, program, overrides, teacher)
    with Terminal().task("compile" if compiled else "plan", 1.0) as task:
        if compiled and isinstance(declared.model, Fit):
            described = describe_fit(plan_fit(declared.fit))
        else:
            described = describe(plan(declared.distilled_model), compiled)
        task.to(1.0)
    found = {"model": declared.name, **described}
    if compiled:
        return found
    return {**found, "device": device_room(found["memory"], found["cost"]["chains"])}


def tell(plan: dict[str, Any], json: bool) -> None:
    """Print a plan, for people or for programs."""
    if json:
        show.as_json(plan)
        return
    console = Console(highlight=False)
    beside = f"teacher {_teacher(plan['teacher'])}" if "teacher" in plan else f"fitted to {_observed(plan)}"
    console.print(f"[bold]{plan['model']}[/bold]: program {plan['program']}, {beside}\n")
    console.print(_sites(plan))
    console.print(_networks(plan["networks"]))
    console.print(_recipe("recipe  [not bold](change a field by --set PATH=VALUE)", plan["recipe"], ""))
    if "recipe" in plan.get("teacher", {}):
        console.print(_recipe("teacher's recipe", plan["teacher"]["recipe"], "teacher."))
    _print_cost(console, plan)
    if "device" in plan:
        _print_device(console, plan["device"], plan["cost"]["chains"])


def _sites(plan: dict[str, Any]) -> Table:
    table = show.table("sites", "site", "distribution", "shape", "depends on", "parameterization")
    for site in plan["sites"]:
        depends = site["depends_on"] + ["networks"] * site["learned"] + ["label"] * site["labelled"]
        cells = (site["distribution"], _shape(site["shape"]), ", ".join(depends) or "-")
        table.add_row(site["name"], *cells, _centered(site))
    for site in plan.get("observed", ()):
        depends = ", ".join(site["depends_on"] + ["networks"] * site["learned"]) or "-"
        table.add_row(site["name"], site["distribution"], _shape(site["shape"]), depends, "observed")
    output = plan["output"]
    if output is not None:
        depends = output.get("depends_on", []) + ["label"] * output.get("labelled", False)
        x = _of_x(plan) if "centered" in output else ""
        table.add_row(output["name"], "generated", _shape(output["shape"]), ", ".join(depends), x)
    return table


def _centered(site: dict[str, Any]) -> str:
    """How a latent is placed: as declared, to be chosen, or as it must be."""
    if not site["eligible"]:
        return f"{site['parameterization']}, nothing to center on"
    if site["centered"] != "auto":
        return f"centered {_value(site['centered'])}, declared"
    return f"{site['parameterization']}, eligible: auto"


def _of_x(plan: dict[str, Any]) -> str:
    """How x_sigma is placed in the E-step."""
    if plan["recipe"]["frozen"]:
        return "latents are held: no choice"
    declared = plan["output"]["centered"]
    if declared != "auto":
        return f"centered {_value(declared)}, declared"
    return "(eps, z)" if plan["recipe"]["choosing"] is None else "from (eps, z), by sigma: auto"


def _observed(plan: dict[str, Any]) -> str:
    plates = ", ".join(f"{size:,} {name}" for name, size in plan["plates"].items())
    return ", ".join(one["name"] for one in plan["observed"]) + (f" ({plates})" if plates else "")


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
    if isinstance(value, list | tuple):
        return ",".join(_value(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _print_cost(console: Console, plan: dict[str, Any]) -> None:
    memory, cost = plan["memory"], plan["cost"]
    temporary = "unknown" if memory["temporary_bytes"] is None else show.size(memory["temporary_bytes"])
    steps, chains, length = plan["recipe"]["steps"], cost["chains"], cost["kernel_steps_per_chain"]
    scores = f", {_many(cost['score_updates'], 'score update')}" if "score_updates" in cost else ""
    console.print(f"[bold]memory[/bold]  {show.size(memory['held_bytes'])} held, {temporary} more during a step")
    console.print("        of it " + ", ".join(f"{name} {show.size(count)}" for name, count in memory["of"].items()))
    console.print(
        f"[bold]cost[/bold]    {_operations(cost['flops_per_step'])} a step, "
        f"{_operations(steps * cost['flops_per_step'])} in all {steps:,}; a step is {_many(chains, 'chain')} of "
        f"{_many(length, 'kernel step')}{scores} and an update of what is trained"
    )
    parts = ", ".join(f"{name} {_operations(count)}" for name, count in cost["parts"].items())
    console.print(f"        of a step: {parts}")


def _print_device(console: Console, device: dict[str, Any], batch: int) -> None:
    if device["bytes"] is None:
        console.print(f"[bold]device[/bold]  {device['name']}, which does not say how much memory it has")
        return
    words = "fits" if device["fits"] else "does not fit"
    console.print(
        f"[bold]device[/bold]  {device['name']} of {show.size(device['bytes'])}: a batch of {batch:,} {words}, by the "
        f"estimate of its trace; the largest is about {device['largest_batch']:,}"
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
    brought = teacher.get("imported")
    data = data or ("" if brought is None else f", from {brought}")
    guidance = f", guided by {teacher['guidance']['scale']:g}" if "guidance" in teacher else ""
    return f"{teacher['type']} of shape {_shape(teacher['shape'])}{labels}{guidance}{data}"


def _shape(shape: list[int]) -> str:
    return " x ".join(str(size) for size in shape) or "scalar"
