"""One call from a declared model to a judged generator in a run folder: teach, distil, judge."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from pplemd.distillation import Distillation, Distilled, distillation, first_shapes, run
from pplemd.evaluation import Report, draw_teacher, evaluate
from pplemd.fitting import Fitted
from pplemd.learning import EMState
from pplemd.metrics import AbstractEvaluation
from pplemd.model import Model, Plan, plan
from pplemd.runs import record
from pplemd.runs.boards import with_board
from pplemd.runs.declared import Declared
from pplemd.runs.opening import Chosen, opened
from pplemd.runs.watch import Watch, shown
from pplemd.schooling import ready_teacher
from pplemd.storage.checkpoints import Checkpoints
from pplemd.storage.folder import RunFolder, write_json
from pplemd.teachers import AbstractTeacher
from pplemd.viewing.board import AbstractBoard, board_of
from pplemd.viewing.narration import AbstractNarrator
from pplemd.viewing.pictures import draw, save_png
from pplemd.viewing.progress import Terminal


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A distillation that has ended.

    Attributes:
        distilled: the one-step generator: `outcome.distilled.sample(key, 100)`.
        report: its figures beside the teacher's and those of real samples.
        folder: the run folder.
        steps: EM steps.
        seconds: wall time of this call.
    """

    distilled: Distilled
    report: Report
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
    tensorboard: bool = False,
) -> Outcome:
    """Distil a model into a one-step generator, and judge it.

    Args:
        model: a model, or the path of a file that declares one.
        out: the run folder; by default a new one in runs/, or the model's newest where the run is resumed.
        name: which model of the file, where it holds several.
        overrides: changes to the recipe, `path=value`.
        resume: go on with a run that was stopped or killed, bit for bit; one that has ended is judged again.
        narrator: told how it goes; by default the terminal. `em.Silent()` is told in vain.
        teacher: the checkpoint of a teacher that is declared by `em.imported`; a run that is resumed knows its own.
        tensorboard: keep TensorBoard's files in the run folder too (extra `tensorboard`).

    Raises:
        PplemdError: where model, recipe or folder cannot be used; says what to do.
        Interrupted: after SIGINT or SIGTERM, once the run is saved.
    """
    began = time.monotonic()
    told = narrator or Terminal()
    chosen = Chosen(name, tuple(overrides), None if teacher is None else Path(teacher))
    declared, folder = opened(model, out, chosen, resume, told)
    if declared.imported is not None:
        declared.imported.checkpoint()  # says where to get one before anything is traced
    planned = plan(declared.distilled_model)
    first_shapes(planned)  # traces the step: a mistake in it shows now, not after the teacher's training
    board = board_of(folder.path, tensorboard)
    if not folder.config.exists():
        record.begin(declared, folder)
    told.say(f"{declared.name}: {planned.problem.name} -> {folder.path}")
    checkpoints = Checkpoints(folder.checkpoints)
    try:
        ready = ready_teacher(planned.model.teacher, told)
        work = _prepared(planned, ready, told)
        state = _train(work, planned.model.evaluation, folder, checkpoints, told, board)
    finally:
        checkpoints.close()
    distilled = work.distilled(state)
    report = _judge(distilled, ready, planned.model.evaluation, folder, 0, told)
    return Outcome(distilled, report, folder.path, work.step.recipe.steps, time.monotonic() - began)


def _prepared(planned: Plan, teacher: AbstractTeacher, told: AbstractNarrator) -> Distillation:
    """The distillation, with the pairs of its anchor where it has one."""
    anchor = planned.model.recipe.anchor
    if anchor is None:
        return distillation(planned, teacher)
    with told.task(f"{anchor.count:,} pairs of noise and teacher samples", 1) as task:
        return distillation(planned, teacher, task.to)


def _train(
    work: Distillation,
    evaluation: AbstractEvaluation | None,
    folder: RunFolder,
    checkpoints: Checkpoints,
    narrator: AbstractNarrator,
    board: AbstractBoard,
) -> EMState:
    with narrator.task("distil", work.step.recipe.steps, shown(work.step.recipe)) as task:
        watch = Watch(work, evaluation, folder, narrator.say, task)
        with with_board(watch.watcher(), board, folder.samples) as watcher:
            return run(work, watcher, checkpoints)


def _judge(
    distilled: Distilled,
    teacher: Any,
    evaluation: AbstractEvaluation | None,
    folder: RunFolder,
    seed: int,
    narrator: AbstractNarrator,
) -> Report:
    with narrator.task("judge", 1.0) as task:
        report = evaluate(distilled, teacher, evaluation, seed, task.to)
    write_json(folder.evaluation, dataclasses.asdict(report))
    return report


def judge(loaded: record.Loaded, folder: RunFolder, seed: int, narrator: AbstractNarrator) -> Report:
    """Judge a run's newest checkpoint, and keep the figures in its evaluation.json.

    Args:
        loaded: what was read from the run.
        folder: the run.
        seed: seed of the samples.
        narrator: told how it goes.
    """
    model = loaded.plan.model
    teacher = ready_teacher(model.teacher, narrator)
    return _judge(loaded.distilled, teacher, model.evaluation, folder, seed, narrator)


def load(run_folder: Path | str, model_file: Path | str | None = None) -> Distilled | Fitted:
    """The generator, or the fitted program, of a run's newest checkpoint: `em.load("runs/digits").sample(key, 100)`.

    Args:
        run_folder: the run's folder.
        model_file: another place of its model file; by default where it was.

    Raises:
        PplemdError: where the run cannot be read.
    """
    given = None if model_file is None else Path(model_file)
    loaded = record.load_any(RunFolder(run_folder), given, Terminal().say)
    return loaded.fitted if isinstance(loaded, record.LoadedFit) else loaded.distilled


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
