"""Plans of model files, printed."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pplemd_cli import show


def planned(
    model: Path,
    program: str | None,
    overrides: tuple[str, ...],
    teacher: Path | None,
    *,
    compiled: bool,
    target: str | None = None,
) -> dict[str, Any]:
    """The plan of a model file as data.

    Args:
        model: the file.
        program: which of its models.
        overrides: changes to its numbers.
        teacher: the teacher's checkpoint.
        compiled: whether to compile the step; else its memory is estimated, and compared with the device's.
        target: the device to compare with, where it is not this machine's.
    """
    from pplemd.planning.describe import describe
    from pplemd.planning.sizing import here, named, sized
    from pplemd.report.progress import Terminal
    from pplemd.runs.declared import declare

    device = None if compiled else here() if target is None else named(target)
    declared = declare(model, program, overrides, teacher)
    with Terminal().progress("compile" if compiled else "plan", 1.0) as progress:
        traced = declared.task.plan()
        progress.to(0.2)
        found = {"model": declared.name, **describe(traced, compiled)}
        if device is not None:
            progress.to(0.7)
            found["device"] = sized(traced, found["memory"], found["cost"], device)
        progress.to(1.0)
    return found


def show_plan(plan: dict[str, Any], json: bool) -> None:
    """Print a plan, for people or for programs."""
    if json:
        show.as_json(plan)
        return
    console = Console(highlight=False)
    source = f"teacher {_teacher(plan['teacher'])}" if "teacher" in plan else f"fitted to {_observed(plan)}"
    console.print(f"[bold]{plan['model']}[/bold]: program {plan['program']}, {source}")
    for note in _of_teacher(plan.get("teacher", {})):
        console.print(show.harmless(note), markup=False)
    console.print()
    console.print(_sites(plan))
    console.print(_networks(plan["networks"]))
    numbers: dict[str, Any] = {name: plan[name] for name in ("training", "algorithm", "diagnostics") if name in plan}
    console.print(_numbers("numbers  [not bold](change one by --set PATH=VALUE)", numbers, ""))
    if "numbers" in plan.get("teacher", {}):
        console.print(_numbers("the teacher's numbers", plan["teacher"]["numbers"], "teacher."))
    memory, cost = plan["memory"], plan["cost"]
    temporary = "unknown" if memory["temporary_bytes"] is None else show.size(memory["temporary_bytes"])
    steps, length = plan["training"]["steps"], cost.get("kernel_steps_per_chain")
    samples = _many(cost["chains"], "sample" if length is None else "chain")
    chains = samples if length is None else f"{samples} of {_many(length, 'kernel step')}"
    scores = f", {_many(cost['score_updates'], 'score update')}" if "score_updates" in cost else ""
    console.print(f"[bold]memory[/bold]  {show.size(memory['held_bytes'])} held, {temporary} more during a step")
    console.print("        of it " + ", ".join(f"{name} {show.size(count)}" for name, count in memory["of"].items()))
    console.print(
        f"[bold]cost[/bold]    {_operations(cost['flops_per_step'])} a step, "
        f"{_operations(steps * cost['flops_per_step'])} in all {steps:,}; a step is {chains}{scores} "
        "and an update of what is trained"
    )
    parts = ", ".join(f"{name} {_operations(count)}" for name, count in cost["parts"].items())
    console.print(f"        of a step: {parts}")
    if "device" in plan:
        _print_device(console, plan["device"], plan)


def _sites(plan: dict[str, Any]) -> Table:
    table = show.table("sites", "site", "distribution", "shape", "depends on", "parameterization")
    for site in plan["sites"]:
        depends = site["depends_on"] + ["networks"] * site["learned"] + ["condition"] * site["conditioned"]
        cells = (site["distribution"], _shape(site["shape"]), ", ".join(depends) or "-")
        table.add_row(site["name"], *cells, _centered(site))
    for site in plan.get("observed", ()):
        depends = ", ".join(site["depends_on"] + ["networks"] * site["learned"]) or "-"
        table.add_row(site["name"], site["distribution"], _shape(site["shape"]), depends, "observed")
    output = plan["output"]
    if output is not None:
        depends = output.get("depends_on", []) + ["condition"] * output.get("conditioned", False)
        x = output.get("coordinates", "")
        table.add_row(output["name"], "generated", _shape(output["shape"]), ", ".join(depends), x)
    return table


def _centered(site: dict[str, Any]) -> str:
    """How a latent is placed: as declared, to be chosen, or as it must be."""
    if not site["eligible"]:
        return f"{site['parameterization']}, nothing to center on"
    if site["centered"] != "auto":
        return f"centered {_value(site['centered'])}, declared"
    return f"{site['parameterization']}, eligible: auto"


def _observed(plan: dict[str, Any]) -> str:
    plates = ", ".join(f"{size:,} {name}" for name, size in plan["plates"].items())
    return ", ".join(one["name"] for one in plan["observed"]) + (f" ({plates})" if plates else "")


def _networks(networks: dict[str, int]) -> Table:
    table = show.table("networks", "network", "parameters")
    table.columns[1].justify = "right"
    for name, count in networks.items():
        table.add_row(name, f"{count:,}")
    return table


def _numbers(title: str, numbers: dict[str, Any], prefix: str) -> Table:
    """A row for each record, with the path that --set takes."""
    table = show.table(title, "path", "type", "fields")
    for name, whole in numbers.items():
        for path, record in _records(whole, name):
            fields = {name: value for name, value in record.items() if name != "type" and not isinstance(value, dict)}
            shown = "  ".join(f"{name}={_value(value)}".replace(" ", "\u00a0") for name, value in fields.items())
            table.add_row(f"{prefix}{path}", record["type"], shown or "-")
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


def _print_device(console: Console, device: dict[str, Any], plan: dict[str, Any]) -> None:
    batch, training = plan["cost"]["chains"], plan["training"]
    needed, has = show.size(device["bytes_needed"]), device["bytes"]
    console.print(f"[bold]device[/bold]  {device['name']}{'' if has is None else f' of {show.size(has)}'}")
    if has is None:
        console.print(f"        it does not say how much memory it has; a step needs about {needed}")
    else:
        words = "fits" if device["fits"] else "does not fit"
        console.print(
            f"        a batch of {batch:,} {words}: {needed} by the estimate of its trace; the largest is about "
            f"{device['largest_batch']:,}"
        )
    console.print(f"        {_duration(device, training['steps'], training['precision']['bf16'])}")
    if device["options"]:
        console.print(_options(device["options"], batch))
    elif has is not None:
        console.print(
            "        nothing makes it fit: not 1,024 of these devices. Take a smaller batch: --set training.batch=N"
        )


def _duration(device: dict[str, Any], steps: int, bf16: bool) -> str:
    """How long a step takes by the device's peak, and all of them."""
    if device["seconds_at_peak"] is None:
        return "unknown device: say its peak for the time of a step, --target TFLOPS:GB, or one by name, --target h100"
    peak = device["peak16" if bf16 else "peak32"] / 1e12
    return (
        f"a step takes {_time(device['seconds_at_peak'])} at its peak of {peak:,.0f} TFLOP/s "
        f"({'bfloat16' if bf16 else '32-bit inputs'}), {_time(device['seconds'])} at {device['share']:.0%} of it; "
        f"{steps:,} steps {_time(steps * device['seconds'])}"
    )


def _options(options: list[dict[str, Any]], batch: int) -> Table:
    """What makes a batch fit, and how to ask for it."""
    made = show.table(f"what makes a batch of {batch:,} fit", "each device needs", "by", "as in")
    for option in options:
        words, settings = [], []
        if option["devices"] > 1:
            shared = "with parameters sharded" if option["sharded"] else "each with all parameters"
            words.append(f"{option['devices']:,} devices, {shared}")
            settings.append(f"--mesh {'model' if option['sharded'] else 'data'}={option['devices']}")
        if option["microbatches"] > 1:
            words.append(f"{option['microbatches']:,} microbatches")
        words.append("features computed again" if option["rematerialise"] else "features kept")
        settings.append(f"--set training.microbatches={option['microbatches']}")
        settings.append(f"--set training.precision.rematerialise={str(option['rematerialise']).lower()}")
        made.add_row(show.size(option["bytes"]), ", ".join(words), " ".join(settings))
    return made


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{1000 * seconds:.3g} ms"


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
    imported = teacher.get("imported")
    data = data or ("" if imported is None else f", from {imported}")
    guidance = f", guided by {teacher['guidance']['scale']:g}" if "guidance" in teacher else ""
    return f"{teacher['type']} of shape {_shape(teacher['shape'])}{labels}{guidance}{data}"


def _of_teacher(teacher: dict[str, Any]) -> list[str]:
    """The convention of an imported teacher, the coordinates of a posterior, and what is assumed."""
    said = [f"teacher's convention: {teacher['convention']}"] if "convention" in teacher else []
    said += [f"coordinates: {line}" for line in teacher.get("coordinates", ())]
    return said + [f"note: {note}" for note in teacher.get("notes", ())]


def _shape(shape: list[int]) -> str:
    return " x ".join(str(size) for size in shape) or "scalar"
