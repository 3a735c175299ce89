"""pplemd distill: teach the teacher where needed, distil, judge."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pplemd_cli import options, plans, show, stops
from pplemd_cli.options import Cluster

if TYPE_CHECKING:
    from pplemd.runs.session import Outcome


def distill(
    model: options.ModelFile,
    program: options.ProgramName = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; else a new one in runs/.", show_default=False)
    ] = None,
    overrides: options.Overrides = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps, the same as --set training.steps=N.", show_default=False)
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="How the generator learns, the same as --set algorithm=NAME: emd, diff-instruct, dmd, sid, sim, "
            "consistency.",
            show_default=False,
        ),
    ] = None,
    seed: options.Seed = None,
    teacher: options.Teacher = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped or killed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan at its full size; train nothing.")] = False,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help="With --dry-run: plan for this device, by name (h100, a100-80gb, l4, ...) or as TFLOPS:GB.",
            show_default=False,
        ),
    ] = None,
    tensorboard: options.Board = False,
    evaluation: options.Judge = True,
    json: options.AsJson = False,
    device: options.Device = None,
    mesh: options.Mesh = None,
    coordinator: options.Coordinator = None,
    processes: options.Processes = None,
    process_id: options.ProcessId = None,
    debug: options.Debug = False,
) -> None:
    """Distil a model file into a one-step generator, and say how good it is.

    Leaves a run folder: config.json, metrics.jsonl, samples.png, checkpoints/, evaluation.json.
    --dry-run builds everything with shapes alone: parameters, memory, operations by part, the time of a step, and what
    fits the device: rematerialisation, microbatches, more devices. An imported teacher needs no checkpoint for it.
    Ctrl-C and SIGTERM save a checkpoint and exit with 130 or 143; --resume goes on from it, bit for bit.
    All devices are used where they divide the batch; --mesh says otherwise. On several hosts, start one process each:
    by srun, or with --coordinator, --processes and --process-id. docs/scaling.md.

    For example:

        pplemd distill models/digits.py

        pplemd distill models/ring.py --steps 500 --set algorithm.chain.length=8 --out runs/short

        pplemd distill models/digits.py --algorithm sid --set algorithm.alpha=1

        pplemd distill models/digits.py --out runs/digits --resume

        pplemd distill models/imagenet64.py --dry-run --target h100

        pplemd distill models/imagenet64.py --teacher edm-imagenet-64x64-cond-adm.pkl --mesh data=8
    """
    options.prepare(device, debug, Cluster(coordinator, processes, process_id))
    named = [] if algorithm is None else [f"algorithm={algorithm}"]  # first: --set changes numbers of that one
    changes = options.changes([*named, *(overrides or ())], steps, seed)
    if dry_run:
        given = {
            "--out": out,
            "--resume": resume,
            "--tensorboard": tensorboard,
            "--mesh": mesh,
            "--no-evaluation": not evaluation,
        }
        for option, value in given.items():
            if value:
                raise typer.BadParameter(f"--dry-run trains nothing, so that {option} has no effect. Leave it out.")
        plans.show_plan(plans.planned(model, program, changes, teacher, compiled=False, target=target), json)
        return
    if target is not None:
        raise typer.BadParameter("--target says what --dry-run plans for. Add --dry-run, or leave --target out.")
    from pplemd.runs.session import distil

    with stops.saved("Go on with the same command and --resume."):
        outcome = distil(
            model,
            out,
            name=program,
            overrides=changes,
            resume=resume,
            teacher=teacher,
            mesh=mesh,
            tensorboard=tensorboard,
            judge=evaluation,
        )
    if options.speaks():
        _show(outcome, json)


def _show(outcome: "Outcome", json: bool) -> None:
    """How good it is, what went wrong on the way, and what to do next."""
    from pplemd.report.terminal import first_alarms
    from pplemd.storage.folder import read_run

    run, seconds, alarms = str(outcome.folder), round(outcome.seconds, 1), first_alarms(read_run(outcome.folder))
    figures = None if outcome.report is None else outcome.report.figures()
    if json:
        judged = {} if figures is None else {**figures, "falls_short": show.short(figures)}
        show.as_json({"run": run, "steps": outcome.steps, **judged, "alarms": dict(alarms), "seconds": seconds})
        return
    if figures is None:
        show.unjudged(outcome.folder)
    else:
        show.report(figures)
    for name, step in alarms:
        print(f"Alarm on the way: {name.replace('_', ' ')}, from step {step:,}. The report tells cause and repair.")
    print(f"{seconds:.0f} s in all. {run} holds the run; draw from it, or see all of it, by")
    print(f"    pplemd sample {shlex.quote(run)}\n    pplemd report {shlex.quote(run)}")
