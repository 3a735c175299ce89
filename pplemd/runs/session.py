"""One call from a declared model to a judged generator in a run folder: teach, distil, judge."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from pplemd.devices import Devices, chosen, first, together
from pplemd.devices import told as told_devices
from pplemd.importers import notes
from pplemd.learning import EMState, Watcher
from pplemd.metrics import AbstractEvaluation, prepared
from pplemd.plotting.samples import draw, save_png
from pplemd.report.progress import Terminal
from pplemd.report.reporter import AbstractNarrator, Silent
from pplemd.report.tensorboard import AbstractBoard, board_of
from pplemd.runs import loading, record
from pplemd.runs.afterwards import saved_in
from pplemd.runs.board_watcher import with_board
from pplemd.runs.declared import Declared
from pplemd.runs.judging import judged
from pplemd.runs.opening import Chosen, opened
from pplemd.runs.watch import Watch, shown
from pplemd.storage.ahead import Ahead
from pplemd.storage.checkpoints import Checkpoints
from pplemd.storage.folder import RunFolder
from pplemd.tasks.distillation import Distillation, Distilled, distillation, first_shapes, run
from pplemd.tasks.double_precision import restored
from pplemd.tasks.evaluation import Report, draw_teacher
from pplemd.tasks.fitting import Fitted
from pplemd.tasks.model import Model, Plan, plan
from pplemd.tasks.teacher_training import at_rest, ready_teacher
from pplemd.teachers import AbstractTeacher


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A distillation that has ended.

    Attributes:
        distilled: the one-step generator: `outcome.distilled.sample(key, 100)`.
        report: its figures beside the teacher's and those of real samples; None where it was not to be judged.
        folder: the run folder.
        steps: EM steps.
        seconds: wall time of this call.
    """

    distilled: Distilled
    report: Report | None
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
    narrator: AbstractNarrator | None = None,
    teacher: Path | str | None = None,
    mesh: str | None = None,
    tensorboard: bool = False,
    known: Report | None = None,
    judging: int = 0,
    judge: bool = True,
) -> Outcome:
    """Distil a model into a one-step generator, and judge it.

    Where `jax.distributed` is initialised, every process calls this with the same arguments; the first one writes the
    run folder, which all must see, and speaks.

    Args:
        model: a model, or the path of a file that declares one.
        out: the run folder; by default a new one in runs/, or the model's newest where the run is resumed.
        name: which model of the file, where it holds several.
        overrides: changes to the recipe, `path=value`.
        resume: go on with a run that was stopped or killed, bit for bit; one that has ended is judged again.
        narrator: told how it goes; by default the terminal. `em.Silent()` is told in vain.
        teacher: the checkpoint of a teacher that is declared by `em.imported`; a run that is resumed knows its own.
        mesh: the devices, such as "data=8" or "data=4,model=2"; by default all where they divide the batch.
        tensorboard: keep TensorBoard's files in the run folder too (extra `tensorboard`).
        known: the report of another run of this model, judged by the same draws, whose teacher's figures need not be
            found again.
        judging: seed of the samples that it is judged by, whatever the seed of the training: figures of several runs
            that share it differ by training alone.
        judge: whether to judge it at the end; `pplemd evaluate` does it later, too.

    Raises:
        PplemdError: where model, recipe, folder or devices cannot be used; says what to do.
        Interrupted: after SIGINT or SIGTERM, once the run is saved.
    """
    asked = Chosen(name, tuple(overrides), None if teacher is None else Path(teacher))
    with together(), restored():
        told = (narrator or Terminal()) if first() else Silent()
        return _distil(model, out, asked, resume, told, mesh, tensorboard, known, judging if judge else None)


def _distil(
    model: Model | Path | str,
    out: Path | str | None,
    asked: Chosen,
    resume: bool,
    told: AbstractNarrator,
    mesh: str | None,
    tensorboard: bool,
    known: Report | None,
    judging: int | None,
) -> Outcome:
    began = time.monotonic()
    declared, folder = opened(model, out, asked, resume, told)
    if declared.narrowed:
        told.say("note: JAX's 64-bit mode is on; this distils in 32 bits, and asks posteriors and your functions in 64")
    ahead = Ahead(declared.alike)
    goes_on = folder.config.exists()
    if declared.imported is not None:
        found = declared.imported.checkpoint()  # says where to get one before anything is traced
        for note in notes(found):
            told.say(f"note: {note}.")
    with told.preparing("tracing the model and its step"):
        planned = plan(declared.distilled_model)
        devices = chosen(mesh, planned.model.recipe.batch)
        first_shapes(planned)  # a mistake in the step shows now, not after the teacher's training
    board = board_of(folder.path, tensorboard and first())
    checkpoints = Checkpoints(folder.checkpoints)  # from here on the folder is this run's own
    try:
        record.begin_or_go_on(declared, folder, devices, told.say, goes_on)
        told.say(f"{declared.name}: {planned.problem.name} -> {folder.path}")
        runs_on = told_devices(devices, planned.model.recipe.batch)
        if runs_on is not None:
            told.say(runs_on)
        ready = ready_teacher(planned.model.teacher, told, devices)
        again, work = _prepared(planned, ready, told)
        asked_for = planned.model.evaluation
        evaluation = None if asked_for is None else prepared(asked_for)  # once, for the way and the end
        state = _train(work, evaluation, folder, checkpoints, told, devices, board, ahead)
    finally:
        checkpoints.close()
    distilled, report = work.distilled(state), None
    if judging is not None:
        with saved_in(folder.path):
            report = judged(distilled, again(), evaluation, folder.evaluation, judging, told, known)
    return Outcome(distilled, report, folder.path, work.step.recipe.steps, time.monotonic() - began)


def _prepared(
    planned: Plan, teacher: AbstractTeacher, told: AbstractNarrator
) -> tuple[Callable[[], AbstractTeacher], Distillation]:
    """What gives the teacher again, and the distillation, with what its anchor and its method draw beforehand."""
    recipe = planned.model.recipe
    again = at_rest(teacher) if recipe.compute.bf16 else lambda: teacher  # else the step asks the same arrays
    pairs = None if recipe.anchor is None else f"{recipe.anchor.count:,} pairs of noise and teacher samples"
    drawn = [what for what in (pairs, recipe.method.prelude()) if what is not None]
    if not drawn:
        return again, distillation(planned, teacher, again=again)
    with told.task(", ".join(drawn), 1) as task:
        return again, distillation(planned, teacher, task.to, again)


def _train(
    work: Distillation,
    evaluation: AbstractEvaluation | None,
    folder: RunFolder,
    checkpoints: Checkpoints,
    narrator: AbstractNarrator,
    devices: Devices,
    board: AbstractBoard,
    ahead: Ahead,
) -> EMState:
    with narrator.task("distil", work.step.recipe.steps, shown(work.step.recipe)) as task:
        watcher = Watch(work, evaluation, folder, narrator.say, task).watcher() if first() else Watcher()
        with with_board(watcher, board, folder.samples) as watched:
            return run(work, watched, checkpoints, devices, ahead)


def load(run_folder: Path | str, model_file: Path | str | None = None) -> Distilled | Fitted:
    """The generator, or the fitted program, of a run's newest checkpoint: `em.load("runs/digits").sample(key, 100)`.

    Args:
        run_folder: the run's folder.
        model_file: another place of its model file; by default where it was.

    Raises:
        PplemdError: where the run cannot be read.
    """
    given = None if model_file is None else Path(model_file)
    with restored():
        loaded = loading.load_any(RunFolder(run_folder), given, Terminal().say)
    return loaded.fitted if isinstance(loaded, loading.LoadedFit) else loaded.distilled


def show_teacher(declared: Declared, picture: Path, seed: int, narrator: AbstractNarrator) -> float:
    """Get a model's teacher ready, which may train it, and draw a picture of its samples.

    Args:
        declared: the model.
        picture: the PNG file.
        seed: seed of the samples.
        narrator: told how it goes.

    Returns:
        Seconds for a thousand samples.

    Raises:
        PplemdError: where the model cannot be used, or the picture cannot be written.
    """
    planned = plan(declared.distilled_model)
    teacher = ready_teacher(planned.model.teacher, narrator)
    with narrator.task("sample", 1.0) as task:
        drawn = draw_teacher(teacher, planned.labels, seed, task.to)
    save_png(picture, draw(drawn.x, teacher.shape))
    return drawn.seconds_per_1000
