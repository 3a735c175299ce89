"""One call from a declared task to a judged run folder: begun or found again, trained, judged; and read back."""

import contextlib
import dataclasses
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from pplemd.devices import described as described_devices
from pplemd.devices import first, led, together
from pplemd.errors import DeviceError, RecipeError
from pplemd.importers import notes
from pplemd.learning import Watcher
from pplemd.plotting.samples import draw, save_png
from pplemd.report.progress import AbstractReporter, Silent, Terminal
from pplemd.report.tensorboard import board_of
from pplemd.runs import loading, record
from pplemd.runs.declared import GIVEN, Declared, declare, declare_value
from pplemd.runs.journal import Watch, with_board
from pplemd.storage.checkpoints import Checkpoints
from pplemd.storage.folder import RunFolder, read_run, write_json
from pplemd.tasks.base import AbstractReport, AbstractTask, EvaluationOptions, Work
from pplemd.tasks.distillation import Model
from pplemd.tasks.evaluation import draw_teacher
from pplemd.tasks.fit import Fit
from pplemd.tasks.results import restored
from pplemd.tasks.teacher_training import ready_teacher

PARENT = Path("runs")  # of the run folders that are not named


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What a run is started with besides the model file.

    Attributes:
        name: which task of the file, where it holds several.
        overrides: changes to its numbers.
        teacher: the checkpoint of its teacher, where its user brings it.
        command: the command that is to train it; None for any.
    """

    name: str | None
    overrides: tuple[str, ...] = ()
    teacher: Path | None = None
    command: str | None = None


def opened(
    model: AbstractTask | Path | str,
    out: Path | str | None,
    options: RunOptions,
    resume: bool,
    reporter: AbstractReporter,
) -> tuple[Declared, RunFolder]:
    """The model and its run folder, new or found again.

    Args:
        model: a task, or the path of a file that declares one.
        out: the run folder; by default a new one, or the newest where the run is resumed.
        options: what else was given.
        resume: whether to go on.
        reporter: says where there is nothing to go on with.

    Raises:
        PplemdError: where task, numbers or folder cannot be used.
    """
    found: list[tuple[Declared, RunFolder]] = []

    def lead() -> dict[str, Any]:
        found.append(_opened(model, out, options, resume, reporter))
        return _facts(*found[0])

    facts = led(lead)
    return found[0] if first() else _followed(model, options, facts)


def _facts(declared: Declared, folder: RunFolder) -> dict[str, Any]:
    """What the first process sends the others of a run."""
    imported = declared.task.imported
    teacher = None if imported is None or imported.path is None else str(imported.path)
    return {
        "folder": str(folder.path.absolute()),
        "name": declared.name,
        "overrides": list(declared.overrides),
        "teacher": teacher,
        "digest": declared.digest,
        "modules": declared.modules,
    }


def _followed(
    model: AbstractTask | Path | str, options: RunOptions, facts: dict[str, Any]
) -> tuple[Declared, RunFolder]:
    """The model and the run folder of the first process, in another one.

    Raises:
        DeviceError: where its model file is another.
    """
    teacher = None if facts["teacher"] is None else Path(facts["teacher"])
    name = options.name if isinstance(model, AbstractTask) else facts["name"]
    declared = _declared(model, RunOptions(name, tuple(facts["overrides"]), teacher, options.command))
    if (declared.digest, declared.modules) != (facts["digest"], facts["modules"]):
        raise DeviceError(
            f"{declared.path}, or a file that it imports from its folder, is another here than in the first process. "
            "All processes of a run read the same model file: put it where all of them see it."
        )
    return declared, RunFolder(facts["folder"])


def _opened(
    model: AbstractTask | Path | str,
    out: Path | str | None,
    options: RunOptions,
    resume: bool,
    reporter: AbstractReporter,
) -> tuple[Declared, RunFolder]:
    named = None if out is None else RunFolder(out)
    if named is not None and not (named.config.exists() if resume else named.is_run):
        named.see_it_is_free()
    if named is not None and resume and not named.config.exists():
        reporter.say(f"{named.path} holds no run yet; starting one.")
        return _declared(model, options), named
    if not resume:
        declared = _declared(model, options)
        folder = named or record.new_folder(declared, PARENT)
        if folder.config.exists():
            record.begin(declared, folder)  # says that the folder is taken
        return declared, folder
    requested = tuple(one for one in options.overrides if one.startswith(GIVEN))
    folder = named or record.newest_folder(
        _declared(model, RunOptions(options.name, requested, None, options.command)), PARENT
    )
    return _again(model, options, folder, reporter), folder


def _declared(model: AbstractTask | Path | str, options: RunOptions) -> Declared:
    if isinstance(model, AbstractTask):
        declared = declare_value(model, options.overrides, options.teacher)
    else:
        declared = declare(Path(model), options.name, options.overrides, options.teacher)
    if options.command is not None:
        declared.task.refuse_command(options.command, declared.name, declared.path)
    return declared


def _again(
    model: AbstractTask | Path | str,
    options: RunOptions,
    folder: RunFolder,
    reporter: AbstractReporter,
) -> Declared:
    """The model of a run that is resumed: the same, with the same changes."""
    known, overrides = record.started_from(folder), options.overrides
    if set(overrides) - set(known.overrides):
        raise RecipeError(
            f"a run that is resumed keeps its numbers; {folder.path} was started with "
            f"{', '.join(known.overrides) or 'no changes'}, and {', '.join(overrides)} was asked for. "
            "Leave --set, --steps and --seed out, or start a new run with another --out."
        )
    of_file = not isinstance(model, AbstractTask)
    if of_file and options.name is not None and options.name != known.name:
        raise RecipeError(
            f"{folder.path} is a run of {known.name}, and {options.name} was asked for; expected the same. Leave "
            "--program out, or start a new run with another --out."
        )
    name = options.name or (known.name if of_file else None)
    declared = _declared(model, RunOptions(name, known.overrides, options.teacher or known.teacher, options.command))
    record.check_teacher(declared, folder, known.teacher_sha256)
    record.check_same(declared, folder, reporter.say)
    if options.teacher is not None:
        record.moved_teacher(declared, folder)
    return declared


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
