"""pplemd report: runs as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import options, show


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, as printed by distill or fit.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="The file; by default report.html in the first folder.", show_default=False)
    ] = None,
    files: Annotated[
        bool, typer.Option("--files", help="Read the folders' files alone: execute no model file, draw nothing.")
    ] = False,
    model: options.OtherFile = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Write one HTML file about a run, or about several beside each other; it opens anywhere, without a network.

    Shows figures beside the teacher's, samples, paths between latents, samples before and after the E-step, curves,
    alarms, chains of `pplemd diagnose`, the plan, what differs between runs, and the command that makes each again.

    What is missing or damaged is noted on the page. Drawing executes the run's model file; --files does not.

    For example:

        pplemd report runs/digits

        pplemd report runs/ring runs/ring-2 runs/ring-3 --out ring.html
    """
    options.prepare(device, debug)
    from pplemd.runs.reporting import write_report

    if model is not None and len(runs) > 1:
        raise typer.BadParameter("--model gives the model file of one run; found several runs. Leave it out.")
    if model is not None and files:
        raise typer.BadParameter("--files executes no model file, so that --model has no effect. Leave one out.")
    target = write_report(runs, out, draw=not files, model_file=model)
    size = target.stat().st_size
    line = f"{target}: {len(runs)} {'run' if len(runs) == 1 else 'runs'}, {show.size(size)}. Open it in a browser."
    show.either(json, {"out": str(target), "runs": [str(run) for run in runs], "bytes": size}, line)
