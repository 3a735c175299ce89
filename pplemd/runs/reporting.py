"""One call from run folders to a report: one HTML file that needs nothing else."""

import importlib.metadata
import shlex
from collections.abc import Sequence
from pathlib import Path

from pplemd.report import ReportData, page, subjects
from pplemd.report.progress import Terminal
from pplemd.report.reporter import AbstractReporter
from pplemd.runs.report_data import report_data
from pplemd.storage.folder import RunFolder, write
from pplemd.storage.run_reader import read_run


def write_report(
    runs: Sequence[Path | str] | Path | str,
    out: Path | str | None = None,
    *,
    draw: bool = True,
    model_file: Path | str | None = None,
    reporter: AbstractReporter | None = None,
) -> Path:
    """Write a report of one run, or of several beside each other.

    Whatever is missing or damaged in a folder becomes a note on the page. The model file of a run is executed where
    samples are drawn: of a folder that is not trusted read the files alone, `draw=False`.

    Args:
        runs: the folders.
        out: the HTML file; by default report.html in the first folder.
        draw: whether to draw from the checkpoints: samples, paths between latents, the E-step's corrections, the plan.
        model_file: another place of the model file, of one run.
        reporter: told how it goes; by default the terminal.

    Returns:
        The file.

    Raises:
        CheckpointError: where a folder is no run, or the file cannot be written.
    """
    paths = [Path(runs)] if isinstance(runs, Path | str) else [Path(run) for run in runs]
    for path in paths:
        read_run(path)  # says which is no run before anything is drawn
    reporter, given = reporter or Terminal(), None if model_file is None else Path(model_file)
    drawn = [report_data(RunFolder(path), given, reporter) if draw else ReportData() for path in paths]
    target = Path(out) if out is not None else paths[0] / "report.html"
    command = " ".join(shlex.quote(str(part)) for part in ("pplemd", "report", *paths, *([] if draw else ["--files"])))
    write(target, page(subjects(paths, drawn), command, importlib.metadata.version("pplemd")))
    return target
