"""pplemd evaluate: judge a run's generator beside its teacher."""

import dataclasses

from pplemd_cli import options, show
from pplemd_cli.progress import bar, say


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

    Example:

        pplemd evaluate runs/digits --json
    """
    options.prepare(device, debug)
    from pplemd import evaluation, runs
    from pplemd.checkpoint import RunFolder, write_json
    from pplemd_cli.teach import taught

    folder = RunFolder(run)
    loaded = runs.load(folder, model, say)
    teacher = taught(loaded.declared.model.teacher)
    with bar("judge  ", 1.0) as progress:
        report = evaluation.evaluate(
            loaded.distilled, teacher, loaded.declared.model.evaluation, seed or 0, progress.to
        )
    figures = {"run": str(folder.path), "step": loaded.step, **dataclasses.asdict(report)}
    write_json(folder.evaluation, figures)
    if json:
        show.as_json(figures)
    else:
        show.report(figures)
