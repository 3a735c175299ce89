"""pplemd evaluate: judge a run's generator beside its teacher."""

from pathlib import Path
from typing import Annotated

import typer

from pplemd_cli import options, show, stops


def evaluate(
    run: options.RunPath,
    model: options.OtherFile = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Judge images by this classifier's features, in place of the model's.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Judge images against this .npz, in place of the model's data.", show_default=False),
    ] = None,
    seed: options.Seed = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Judge a run: the floor (real against real), the teacher and the one-step student by the same figures.

    A fit is judged by its parameters, an estimate of log p(y), and long chains of its latents.

    Writes evaluation.json in the run folder. Another --seed draws other samples, to see the spread.
    --features takes LeNet-5's weights (MNIST) or those of a residual network of CIFAR-10; images are compared with the
    held-out ones of the data, and a class-conditional student with the classes that it was asked for; the figures are
    kept apart, in evaluation-NAME.json of the files' names.

    For example:

        pplemd evaluate runs/digits

        pplemd evaluate runs/digits --seed 1 --json

        pplemd evaluate runs/mnist --features lenet.npz --data mnist.npz
    """
    options.prepare(device, debug)
    from pplemd.report.progress import Terminal
    from pplemd.runs import loading
    from pplemd.runs.session import judge
    from pplemd.storage.folder import RunFolder
    from pplemd.tasks.base import EvaluationOptions

    reporter, folder = Terminal(), RunFolder(run)
    with stops.saved("Go on with the same command."):
        with reporter.preparing("reading the run"):
            loaded = loading.load(folder, model, reporter.say)
        report = judge(loaded, folder, EvaluationOptions(seed or 0, features, data), reporter)
    if json:
        show.as_json({"run": str(run), "step": loaded.step, **show.figures(report)})
    else:
        show.report(report.figures())
