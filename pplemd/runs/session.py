"""One call from a declared task to a judged run folder: train, judge; and back from the folder to what it learned."""

import contextlib
import dataclasses
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from jaxtyping import PyTree

from pplemd.devices import described as described_devices
from pplemd.devices import first, together
from pplemd.importers import notes
from pplemd.learning import Watcher
from pplemd.plotting.samples import draw, save_png
from pplemd.report.progress import AbstractReporter, Silent, Terminal
from pplemd.report.tensorboard import board_of
from pplemd.runs import loading, record
from pplemd.runs.declared import Declared
from pplemd.runs.opening import RunOptions, opened
from pplemd.runs.watch import Watch, with_board
from pplemd.storage.checkpoints import Checkpoints
from pplemd.storage.folder import RunFolder, write_json
from pplemd.storage.run_reader import read_run
from pplemd.tasks.base import AbstractReport, AbstractTask, EvaluationOptions, Work
from pplemd.tasks.distillation import Model
from pplemd.tasks.evaluation import draw_teacher
from pplemd.tasks.fit import Fit
from pplemd.tasks.results import restored
from pplemd.tasks.teacher_training import ready_teacher


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A training that has ended.

    Attributes:
        result: what it learned: a one-step generator, `outcome.result.sample(key, 100)`, or a fitted program,
            `outcome.result.parameters()`.
        report: its figures; None where it was not to be judged.
        folder: the run folder.
        steps: training steps.
        seconds: wall time of this call.
    """

    result: PyTree
    report: AbstractReport | None
    folder: Path
    steps: int
    seconds: float


def distil(
    model: Model | Path | str,
    out: Path | str | None = None,
    *,
    name: str | None = None,
    overrides: tuple[str, ...] = (),
    resume: bool = False,
    reporter: AbstractReporter | None = None,
    teacher: Path | str | None = None,
    mesh: str | None = None,
    tensorboard: bool = False,
    known: AbstractReport | None = None,
    evaluation_seed: int = 0,
    judge: bool = True,
) -> Outcome:
    """Distil a model into a one-step generator, and judge it.

    Where `jax.distributed` is initialised, every process calls this with the same arguments; the first one writes the
    run folder, which all must see, and speaks.

    Args:
        model: a model, or the path of a file that declares one.
        out: the run folder; by default a new one in runs/, or the model's newest where the run is resumed.
        name: which model of the file, where it holds several.
        overrides: changes to its numbers, `path=value`.
        resume: go on with a run that was stopped or killed, bit for bit; one that has ended is judged again.
        reporter: shows how it goes; by default the terminal. `em.Silent()` shows nothing.
        teacher: the checkpoint of a teacher that is declared by `em.imported`; a run that is resumed knows its own.
        mesh: the devices, such as "data=8" or "data=4,model=2"; by default all where they divide the batch.
        tensorboard: keep TensorBoard's files in the run folder too (extra `tensorboard`).
        known: the report of another run of this model, judged by the same draws, whose teacher's figures need not be
            found again.
        evaluation_seed: seed of the samples that it is judged by, whatever the seed of the training: figures of
            several runs that share it differ by training alone.
        judge: whether to judge it at the end; `pplemd evaluate` does it later, too.

    Raises:
        PplemdError: where model, numbers, folder or devices cannot be used; says what to do.
        Interrupted: after SIGINT or SIGTERM, once the run is saved.
    """
    options = RunOptions(name, tuple(overrides), None if teacher is None else Path(teacher), "distill")
    return run(model, out, options, resume, reporter, mesh, tensorboard, known, evaluation_seed if judge else None)


def fit(
    model: Fit | Path | str,
    out: Path | str | None = None,
    *,
    name: str | None = None,
    overrides: tuple[str, ...] = (),
    resume: bool = False,
    reporter: AbstractReporter | None = None,
    tensorboard: bool = False,
    judge: bool = True,
) -> Outcome:
    """Fit a program to what it observes, and judge it.

    Args:
        model: a fit, or the path of a file that declares one.
        out: the run folder; by default a new one in runs/, or the fit's newest where the run is resumed.
        name: which fit of the file, where it holds several.
        overrides: changes to its numbers, `path=value`; what the file asks for, `given.name=value`.
        resume: go on with a run that was stopped or killed, bit for bit; one that has ended is judged again.
        reporter: shows how it goes; by default the terminal. `em.Silent()` shows nothing.
        tensorboard: keep TensorBoard's files in the run folder too (extra `tensorboard`).
        judge: whether to judge it at the end; `pplemd evaluate` does it later, too.

    Raises:
        PplemdError: where fit, numbers or folder cannot be used; says what to do.
        Interrupted: after SIGINT or SIGTERM, once the run is saved.
    """
    options = RunOptions(name, tuple(overrides), None, "fit")
    return run(model, out, options, resume, reporter, None, tensorboard, None, 0 if judge else None)


def run(
    model: AbstractTask | Path | str,
    out: Path | str | None,
    options: RunOptions,
    resume: bool = False,
    reporter: AbstractReporter | None = None,
    mesh: str | None = None,
    tensorboard: bool = False,
    known: AbstractReport | None = None,
    evaluation_seed: int | None = None,
) -> Outcome:
    """Train a task of any kind in its run folder, and judge what it learned; see `distil` for the arguments.

    Args:
        model: a task, or the path of a file that declares one.
        out: the run folder.
        options: which task of the file, the changes to it, its teacher.
        resume: go on with a run.
        reporter: shows how it goes.
        mesh: the devices.
        tensorboard: keep TensorBoard's files too.
        known: the report of another run of this task.
        evaluation_seed: seed of the samples that it is judged by; None not to judge it.
    """
    with together(), restored():
        shows = (reporter or Terminal()) if first() else Silent()
        began = time.monotonic()
        declared, folder = opened(model, out, options, resume, shows)
        goes_on = folder.config.exists()
        if declared.narrowed:
            shows.say("note: JAX's 64-bit mode is on; this distils in 32 bits, and asks posteriors and functions in 64")
        if declared.task.imported is not None:
            for note in notes(declared.task.imported.checkpoint()):  # says where to get one before anything is traced
                shows.say(f"note: {note}.")
        with shows.preparing("tracing the model and its step"):
            plan = declared.task.plan()
            devices = plan.devices(mesh)
            plan.shapes_of(Work.window)  # a mistake in the step shows now, not after the teacher's training
        board = board_of(folder.path, tensorboard and first())
        checkpoints = Checkpoints(folder.checkpoints)  # from here on the folder is this run's own
        try:
            record.begin_or_go_on(declared, folder, devices, shows.say, goes_on)
            program = declared.name if plan.problem is None else plan.problem.name
            shows.say(f"{declared.name}: {program} -> {folder.path}")
            runs_on = described_devices(devices, declared.task.training.batch)
            if runs_on is not None:
                shows.say(runs_on)
            work = plan.build(shows, devices)
            title = {"distill": "distil"}.get(declared.task.command, declared.task.command)
            with shows.progress(title, work.training.steps, work.step.algorithm.shown()) as progress:
                watcher = Watch(work, folder, shows, progress).watcher() if first() else Watcher()
                with with_board(watcher, board, folder.samples) as watched:
                    state = work.train(watched, checkpoints, devices)
        finally:
            checkpoints.close()
        result, report = work.result(state), None
        if evaluation_seed is not None and work.judge is not None:
            with saved_in(folder.path):
                history = read_run(folder.path).history if first() else []
                report = work.judge(result, EvaluationOptions(evaluation_seed), history, shows, known)
            if first():
                write_json(folder.evaluation, report.figures())
        return Outcome(result, report, folder.path, work.training.steps, time.monotonic() - began)


def judge(
    loaded: loading.Loaded, folder: RunFolder, options: EvaluationOptions, reporter: AbstractReporter
) -> AbstractReport:
    """Judge a run's newest checkpoint, and keep the figures in its folder.

    They are kept in evaluation.json, or beside it in evaluation-NAME.json, NAME that of the files given.

    Args:
        loaded: what was read from the run.
        folder: the run.
        options: seed, and what to judge by in place of what the task says.
        reporter: shows how it goes.
    """
    with saved_in(folder.path):
        history = read_run(folder.path).history
        report = loaded.plan.judge(loaded.result, options, history, reporter, None)
    given = [path.stem for path in (options.features, options.data) if path is not None]
    write_json(folder.path / f"{'-'.join([folder.evaluation.stem, *given])}.json", report.figures())
    return report


def load(run_folder: Path | str, model_file: Path | str | None = None) -> PyTree:
    """What a run's newest checkpoint has learned: `em.load("runs/digits").sample(key, 100)`.

    Args:
        run_folder: the run's folder.
        model_file: another place of its model file; by default where it was.

    Raises:
        PplemdError: where the run cannot be read.
    """
    given = None if model_file is None else Path(model_file)
    with restored():
        return loading.load(RunFolder(run_folder), given, Terminal().say).result


def show_teacher(declared: Declared, picture: Path, seed: int, reporter: AbstractReporter) -> float:
    """Get a model's teacher ready, which may train it, and draw a picture of its samples.

    Args:
        declared: the model.
        picture: the PNG file.
        seed: seed of the samples.
        reporter: shows how it goes.

    Returns:
        Seconds for a thousand samples.

    Raises:
        PplemdError: where the model cannot be used, or the picture cannot be written.
    """
    plan = declared.distillation.plan()
    teacher = ready_teacher(plan.model.teacher, reporter)
    with reporter.progress("sample", 1.0) as progress:
        drawn = draw_teacher(teacher, plan.conditions, seed, progress.to)
    save_png(picture, draw(drawn.x, drawn.x.shape[1:]))
    return drawn.seconds_per_1000


@contextlib.contextmanager
def saved_in(folder: Path) -> Iterator[None]:
    """In a `with` block, an error or a stop gets a note that the training is done, which its message ends with."""
    try:
        yield
    except BaseException as end:
        end.add_note(f"The training is done and saved in {folder}; judge it at any time by\n    {evaluation(folder)}")
        raise


def evaluation(folder: Path) -> str:
    """What judges a run, for a shell."""
    return f"pplemd evaluate {shlex.quote(str(folder))}"
