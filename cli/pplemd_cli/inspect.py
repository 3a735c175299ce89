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

    The program is traced, and its step compiled, but nothing is trained.

    Example:

        pplemd inspect models/digits.py
    """
    options.prepare(device, debug)
    from pplemd.inspection import describe
    from pplemd.model import plan
    from pplemd.runs import declare

    declared = declare(model, program, tuple(overrides or ()))
    plan_as_data = {"model": declared.name, **describe(plan(declared.model))}
    if json:
        show.as_json(plan_as_data)
    else:
        _print(plan_as_data)


def _print(plan: dict[str, Any]) -> None:
    console = Console()
    console.print(f"[bold]{plan['model']}[/bold]: program {plan['program']}, teacher {_teacher(plan['teacher'])}")
    console.print(_sites(plan))
    networks = Table(title="networks", title_justify="left")
    networks.add_column("")
    networks.add_column("parameters", justify="right")
    for name, count in plan["networks"].items():
        networks.add_row(name, f"{count:,}")
    console.print(networks)
    console.print("[bold]recipe[/bold] (change by --set PATH=VALUE)")
    for path, value in _leaves(plan["recipe"]):
        console.print(f"    {path} = {value}", highlight=False)
    _print_cost(console, plan)


def _sites(plan: dict[str, Any]) -> Table:
    table = Table(title="sites", title_justify="left")
    for heading in ("site", "distribution", "shape", "depends on", "parameterization"):
        table.add_column(heading)
    for site in plan["sites"]:
        depends = site["depends_on"] + ["networks"] * site["learned"] + ["label"] * site["labelled"]
        free = ", may be chosen" if site["eligible"] else ""
        table.add_row(
            site["name"], site["distribution"], _shape(site["shape"]), ", ".join(depends) or "-", site["parameterization"] + free
        )
    output = plan["output"]
    depends = output["depends_on"] + ["label"] * output["labelled"]
    table.add_row(output["name"], "generated", _shape(output["shape"]), ", ".join(depends), "(noise, latents)")
    return table


def _print_cost(console: Console, plan: dict[str, Any]) -> None:
    memory, cost = plan["memory"], plan["cost"]
    temporary = "unknown" if memory["temporary_bytes"] is None else show.size(memory["temporary_bytes"])
    flops = "unknown" if not cost["flops_per_step"] else f"{cost['flops_per_step'] / 1e9:.3g} GFLOP"
    console.print(f"[bold]memory[/bold] {show.size(memory['held_bytes'])} held, {temporary} more during a step")
    console.print(
        f"[bold]cost of a step[/bold] {flops}: {cost['chains']} chains of {cost['kernel_steps_per_chain']} kernel steps, "
        f"{cost['score_updates']} score updates, 1 generator update"
    )


def _teacher(teacher: dict[str, Any]) -> str:
    labels = "" if teacher["classes"] is None else f", {teacher['classes']} classes"
    taught = teacher.get("taught_on")
    data = "" if taught is None else f", taught on {taught['train']:,} samples ({taught['held_out']:,} held out)"
    return f"{teacher['type']} of {_shape(teacher['shape'])}{labels}{data}"


def _shape(shape: list[int]) -> str:
    return " x ".join(str(size) for size in shape) or "scalar"


def _leaves(value: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The fields of a recipe with their dotted paths, as --set takes them."""
    found: list[tuple[str, Any]] = []
    for name, item in value.items():
        if name == "type":
            continue
        if isinstance(item, dict):
            found += [(f"{prefix}{name}", item.get("type", "")), *_leaves(item, f"{prefix}{name}.")]
        else:
            found.append((f"{prefix}{name}", item))
    return found
