"""pplemd distill: teach the teacher where needed, distil, judge."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pplemd_cli import options, show
from pplemd_cli.progress import Bar, bar, say
from pplemd_cli.teach import taught

SHOWN = ("pull", "score_loss", "gradient_norm", "acceptance")


def distill(
    model: options.ModelFile,
    program: options.ProgramName = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; by default a new one in runs/.", show_default=False)
    ] = None,
    overrides: options.Overrides = None,
    steps: Annotated[int | None, typer.Option(help="EM steps, the same as --set steps=N.", show_default=False)] = None,
    seed: options.Seed = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped or killed.")] = False,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Distil a model file into a one-step generator, and say how good it is.

    Leaves a run folder: config.json, metrics.jsonl, samples.png, checkpoints/, evaluation.json.
    Ctrl-C saves a checkpoint; --resume goes on from it, bit for bit.

    Examples:

        pplemd distill models/digits.py

        pplemd distill models/ring.py --steps 500 --set chain.length=8 --out runs/short

        pplemd distill models/digits.py --out runs/digits --resume
    """
    options.prepare(device, debug)
    began = time.monotonic()
    changes = list(overrides or [])
    changes += [f"{name}={value}" for name, value in (("steps", steps), ("seed", seed)) if value is not None]
    from pplemd.learning import Interrupted

    try:
        figures = _distill(_Asked(model, program, out, tuple(changes), resume))
    except Interrupted as stop:
        say(f"{stop}; it is saved. Go on with the same command and --resume.")
        raise typer.Exit(128 + stop.signal) from stop
    figures["seconds"] = round(time.monotonic() - began, 1)
    if json:
        show.as_json(figures)
        return
    if "student" in figures:
        show.report(figures)
    print(f"{figures['seconds']:.0f} s in all. {figures['run']} holds the run; draw from it by")
    print(f"    pplemd sample {figures['run']}")


@dataclasses.dataclass(frozen=True)
class _Asked:
    model: Path
    program: str | None
    out: Path | None
    changes: tuple[str, ...]
    resume: bool


def _distill(asked: _Asked) -> dict[str, Any]:
    from pplemd import distil, model, runs
    from pplemd.checkpoint import Checkpoints

    declared, folder = _open(asked)
    planned = model.plan(declared.model)
    if not folder.config.exists():
        runs.begin(declared, folder)
    say(f"{declared.name}: {planned.problem.name} of {declared.path.name} -> {folder.path}")
    teacher = taught(declared.model.teacher)
    work = distil.distillation(planned, teacher, declared.model.recipe)
    checkpoints = Checkpoints(folder.checkpoints)
    try:
        with bar("distil ", work.step.recipe.steps) as progress:
            state = distil.run(work, _watcher(work, folder, progress), checkpoints)
    finally:
        checkpoints.close()
    report = _evaluate(work, state, declared.model.evaluation, folder)
    return {"run": str(folder.path), "steps": work.step.recipe.steps, **report}


def _open(asked: _Asked) -> tuple[Any, Any]:
    """The model and its run folder, new or found again."""
    from pplemd import runs
    from pplemd.checkpoint import RunFolder
    from pplemd.errors import RecipeError

    parent = Path("runs")
    if not asked.resume:
        declared = runs.declare(asked.model, asked.program, asked.changes)
        folder = RunFolder(asked.out) if asked.out else runs.new_folder(declared, parent)
        if folder.config.exists():
            runs.begin(declared, folder)  # says that the folder is taken
        return declared, folder
    found = RunFolder(asked.out) if asked.out else None
    if found is not None and not found.config.exists():
        say(f"{found.path} holds no run yet; starting one.")
        return runs.declare(asked.model, asked.program, asked.changes), found
    folder = found or runs.newest_folder(runs.declare(asked.model, asked.program), parent)
    declared = runs.declared_again(folder, asked.model, say, same=True)
    if asked.changes and set(asked.changes) - set(declared.overrides):
        raise RecipeError(
            f"a run that is resumed keeps its recipe; {folder.path} was started with "
            f"{', '.join(declared.overrides) or 'no changes'}, and {', '.join(asked.changes)} was asked for. "
            "Leave --set, --steps and --seed out, or start a new run with another --out."
        )
    return declared, folder


def _watcher(work: Any, folder: Any, progress: Bar) -> Any:
    from pplemd.checkpoint import MetricsFile
    from pplemd.learning import Watcher
    from pplemd.pictures import save_png
    from pplemd.portrait import portrait

    lines = MetricsFile(folder.metrics)

    def report(step: int, figures: dict[str, float]) -> None:
        lines.append(step, figures)
        progress.show(figures, SHOWN)

    def picture(step: int, state: Any) -> None:
        save_png(folder.samples, portrait(work.distilled(state)))

    return Watcher(advance=progress.to, report=report, picture=picture, note=say, begin=lines.keep_until)


def _evaluate(work: Any, state: Any, evaluation: Any, folder: Any) -> dict[str, Any]:
    from pplemd.checkpoint import write_json
    from pplemd.evaluation import evaluate

    with bar("judge  ", 1.0) as progress:
        report = evaluate(work.distilled(state), work.step.teacher, evaluation, advance=progress.to)
    figures = dataclasses.asdict(report)
    write_json(folder.evaluation, figures)
    return figures

