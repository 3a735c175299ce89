"""pplemd distill: teach the teacher where needed, distil, judge."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import options, plans, show, stops


def distill(
    model: options.ModelFile,
    program: options.ProgramName = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; else a new one in runs/.", show_default=False)
    ] = None,
    overrides: options.Overrides = None,
    steps: Annotated[int | None, typer.Option(help="EM steps, the same as --set steps=N.", show_default=False)] = None,
    seed: options.Seed = None,
    teacher: options.Teacher = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped or killed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan at its full size; train nothing.")] = False,
    tensorboard: options.Board = False,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Distil a model file into a one-step generator, and say how good it is.

    Leaves a run folder: config.json, metrics.jsonl, samples.png, checkpoints/, evaluation.json.
    --dry-run builds everything with shapes alone: parameters, memory, operations by part, and what fits the device.
    Ctrl-C and SIGTERM save a checkpoint and exit with 130 or 143; --resume goes on from it, bit for bit.

    For example:

        pplemd distill models/digits.py

        pplemd distill models/ring.py --steps 500 --set chain.length=8 --out runs/short

        pplemd distill models/digits.py --out runs/digits --resume

        pplemd distill mine.py --teacher edm-imagenet-64x64-cond-adm.pkl
    """
    options.prepare(device, debug)
    changes = options.changes(overrides, steps, seed)
    if dry_run:
        plans.tell(plans.planned(model, program, changes, teacher, compiled=False), json)
        return
    from pplemd.runs.session import distil

    with stops.saved("Go on with the same command and --resume."):
        outcome = distil(
            model, out, name=program, overrides=changes, resume=resume, teacher=teacher, tensorboard=tensorboard
        )
    run, seconds, figures = str(outcome.folder), round(outcome.seconds, 1), dataclasses.asdict(outcome.report)
    if json:
        show.as_json({"run": run, "steps": outcome.steps, **figures, "seconds": seconds})
        return
    show.report(figures)
    print(f"{seconds:.0f} s in all. {run} holds the run; draw from it, or see all of it, by")
    print(f"    pplemd sample {run}\n    pplemd report {run}")
