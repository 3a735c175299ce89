"""One call from run folders to a report: one HTML file that needs nothing else."""

import dataclasses
import importlib.metadata
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pplemd.planning.describe import describe
from pplemd.report import RaisedAlarm, ReportData, page, subjects
from pplemd.report.progress import AbstractReporter, Terminal
from pplemd.runs.journal import Judge
from pplemd.runs.loading import load
from pplemd.storage.folder import RunFolder, read_run, reason, write
from pplemd.tasks.results import restored

STAGES = 8


class _Noting:
    """Collects what is drawn, and sentences about what could not be."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def say(self, sentence: str) -> None:
        plain = sentence.removeprefix("note: ")
        self.notes.append(plain[:1].upper() + plain[1:])

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """In a `with` block, whatever is raised becomes a note."""
        try:
            yield
        except Exception as error:  # a model file's own code, Orbax, XLA: many kinds, each means: not this one
            self.notes.append(f"{what} could not be drawn ({reason(error)}).")


@restored()
def report_data(folder: RunFolder, model_file: Path | None, reporter: AbstractReporter) -> ReportData:
    """Draw what a report shows of a run.

    Args:
        folder: the run.
        model_file: another place of its model file.
        reporter: shows how it goes.

    Raises:
        CheckpointError: where the folder is no run.
    """
    read_run(folder.path)
    noting, found = _Noting(), dict[str, Any]()
    with reporter.progress(f"draw {folder.path.name}", STAGES) as progress:
        with noting.trying("What its checkpoint holds"):
            loaded = load(folder, model_file, noting.say)
            found["step"], task = loaded.step, loaded.declared.task
            with noting.trying("Its plan"):
                found["plan"] = describe(loaded.plan, compiled=False)
            with noting.trying("Its alarms in words"):
                rows = loaded.plan.shapes_of(lambda work: work.rows)
                found["alarms"] = _alarms(folder, lambda lines: task.algorithm.alarms(task.training, lines, rows))
            for done, (what, drawn) in enumerate(loaded.plan.report_data(loaded.state, noting.say).items(), 3):
                progress.to(min(done, STAGES))
                with noting.trying(what):
                    found |= drawn()
        progress.to(STAGES)
    return ReportData(**found, notes=tuple(noting.notes))


def _alarms(folder: RunFolder, judge: Judge) -> tuple[RaisedAlarm, ...]:
    """Each alarm in words, as it was first raised."""
    run_record = read_run(folder.path)
    history, found = run_record.history, dict[str, RaisedAlarm]()
    for number, line in enumerate(run_record.lines, 1):
        if set(line.alarms) - found.keys():
            raised = {alarm.name: alarm for alarm in judge(history[:number])}
            for name in line.alarms:
                if name in raised and name not in found:
                    found[name] = RaisedAlarm(step=line.step, **dataclasses.asdict(raised[name]))
    return tuple(found.values())


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
        reporter: shows how it goes; by default the terminal.

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
