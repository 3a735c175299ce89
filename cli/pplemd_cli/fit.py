"""pplemd fit: fit a program to what it observes, by Monte Carlo EM."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import options, show, stops


def fit(
    model: options.ModelFile,
    program: options.ProgramName = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; else a new one in runs/.", show_default=False)
    ] = None,
    overrides: options.Overrides = None,
    steps: Annotated[
        int | None, typer.Option(help="Training steps, the same as --set training.steps=N.", show_default=False)
    ] = None,
    seed: options.Seed = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped or killed.")] = False,
    tensorboard: options.Board = False,
    evaluation: options.Judge = True,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Fit a program that observes data, an em.Fit, by Monte Carlo EM, and say what came of it.

    The E-step moves chains of the latents' posterior, in coordinates that are chosen from their own draws; the M-step
    trains networks and parameters. Leaves a run folder: config.json, metrics.jsonl, checkpoints/, evaluation.json, and
    samples.png where the program generates something. Ctrl-C and SIGTERM save a checkpoint and exit with 130 or 143.

    For example:

        pplemd fit models/deep_latent.py --program auto

        pplemd fit models/radon.py --set given.data=radon_mn.json --set algorithm.reparameterization=none \
            --set algorithm.centering=1

        pplemd fit models/deep_latent.py --program auto --resume
    """
    options.prepare(device, debug)
    from pplemd.runs.session import fit as run

    with stops.saved("Go on with the same command and --resume."):
        changes = options.changes(overrides, steps, seed)
        outcome = run(
            model, out, name=program, overrides=changes, resume=resume, tensorboard=tensorboard, judge=evaluation
        )
    folder, seconds = str(outcome.folder), round(outcome.seconds, 1)
    figures = None if outcome.report is None else outcome.report.figures()
    if json:
        show.as_json({"run": folder, "steps": outcome.steps, **(figures or {}), "seconds": seconds})
        return
    if figures is None:
        show.unjudged(outcome.folder)
    else:
        show.report(figures)
    print(f"{seconds:.0f} s in all. {folder} holds the run; its latents given the data:")
    print(f"    pplemd sample {shlex.quote(folder)} --format netcdf")
