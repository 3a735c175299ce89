"""pplemd evaluate: judge a run's generator beside its teacher."""

import dataclasses

from pplemd_cli import options, show, stops


def evaluate(
    run: options.RunPath,
    model: options.OtherFile = None,
    seed: options.Seed = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Judge a run: the floor (real against real), the teacher and the one-step student by the same figures.

    Writes evaluation.json in the run folder. Another --seed draws other samples, to see the spread.

    For example:

        pplemd evaluate runs/digits

        pplemd evaluate runs/digits --seed 1 --json
    """
    options.prepare(device, debug)
    from pplemd.runs.session import judge
    from pplemd.storage.folder import RunFolder
    from pplemd.viewing.progress import Terminal

    with stops.saved("Go on with the same command."):
        judged = judge(RunFolder(run), model, seed or 0, Terminal())
    figures = dataclasses.asdict(judged.report)
    if json:
        show.as_json({"run": str(run), "step": judged.step, **figures})
    else:
        show.report(figures)
