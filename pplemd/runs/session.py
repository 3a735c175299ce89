"""One call from a declared model to a judged generator in a run folder: teach, distil, judge."""

import dataclasses
import time
from pathlib import Path
from typing import Any

from pplemd.distillation import Distillation, Distilled, distillation, first_shapes, run
from pplemd.errors import RecipeError
from pplemd.evaluation import Report, draw_teacher, evaluate
from pplemd.importers import Imported
from pplemd.learning import EMState
from pplemd.metrics import AbstractEvaluation
from pplemd.model import Model, Plan, plan
from pplemd.runs import record
from pplemd.runs.declared import Declared, declare, declare_value
from pplemd.runs.watch import Watch, shown
from pplemd.schooling import ready_teacher
from pplemd.storage.checkpoints import Checkpoints
from pplemd.storage.folder import RunFolder, write_json
from pplemd.teachers import AbstractTeacher
from pplemd.viewing.narration import AbstractNarrator
from pplemd.viewing.pictures import draw, save_png
from pplemd.viewing.progress import Terminal

PARENT = Path("runs")  # of the run folders that are not named


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

    Raises:
        PplemdError: where model, recipe or folder cannot be used; says what to do.
        Interrupted: after SIGINT or SIGTERM, once the run is saved.
    """
    began = time.monotonic()
    told = narrator or Terminal()
    chosen = Chosen(name, tuple(overrides), None if teacher is None else Path(teacher))
    declared, folder = _open(model, out, chosen, resume, told)
    if isinstance(declared.model.teacher, Imported):
        declared.model.teacher.checkpoint()  # says where to get one before anything is traced
    planned = plan(declared.model)
    first_shapes(planned)  # traces the step: a mistake in it shows now, not after the teacher's training
    if not folder.config.exists():
        record.begin(declared, folder)
    told.say(f"{declared.name}: {planned.problem.name} -> {folder.path}")
    checkpoints = Checkpoints(folder.checkpoints)
    try:
        ready = ready_teacher(declared.model.teacher, told)
        work = _prepared(planned, ready, told)
        state = _train(work, declared.model.evaluation, folder, checkpoints, told)
    finally:
        checkpoints.close()
    distilled = work.distilled(state)
    report = _judge(distilled, ready, declared.model.evaluation, folder, 0, told)
    return Outcome(distilled, report, folder.path, work.step.recipe.steps, time.monotonic() - began)


def _prepared(planned: Plan, teacher: AbstractTeacher, told: AbstractNarrator) -> Distillation:
    """The distillation, with the pairs of its anchor where it has one."""
    anchor = planned.model.recipe.anchor
    if anchor is None:
        return distillation(planned, teacher)
    with told.task(f"{anchor.count:,} pairs of noise and teacher samples", 1) as task:
        return distillation(planned, teacher, task.to)


@dataclasses.dataclass(frozen=True)
class Chosen:
    """What was asked for besides the model file.

    Attributes:
        name: which model of the file.
        overrides: changes to the recipe.
        teacher: the checkpoint of its teacher.
    """

    name: str | None
    overrides: tuple[str, ...] = ()
    teacher: Path | None = None


def _open(
    model: Model | Path | str,
    out: Path | str | None,
    chosen: Chosen,
    resume: bool,
    narrator: AbstractNarrator,
) -> tuple[Declared, RunFolder]:
    """The model and its run folder, new or found again."""
    named = None if out is None else RunFolder(out)
    if named is not None and resume and not named.config.exists():
        narrator.say(f"{named.path} holds no run yet; starting one.")
        return _declared(model, chosen), named
    if not resume:
        declared = _declared(model, chosen)
        folder = named or record.new_folder(declared, PARENT)
        if folder.config.exists():
            record.begin(declared, folder)  # says that the folder is taken
        return declared, folder
    folder = named or record.newest_folder(_declared(model, Chosen(chosen.name)), PARENT)
    return _again(model, chosen, folder, narrator), folder


def _declared(model: Model | Path | str, chosen: Chosen) -> Declared:
    if isinstance(model, Model):
        return declare_value(model, chosen.overrides, chosen.teacher)
    return declare(Path(model), chosen.name, chosen.overrides, chosen.teacher)


def _again(
    model: Model | Path | str,
    chosen: Chosen,
    folder: RunFolder,
    narrator: AbstractNarrator,
) -> Declared:
    """The model of a run that is resumed: the same, with the same changes."""
    known, overrides = record.started_from(folder), chosen.overrides
    if set(overrides) - set(known.overrides):
        raise RecipeError(
            f"a run that is resumed keeps its recipe; {folder.path} was started with "
            f"{', '.join(known.overrides) or 'no changes'}, and {', '.join(overrides)} was asked for. "
            "Leave --set, --steps and --seed out, or start a new run with another --out."
        )
    name = chosen.name or (None if isinstance(model, Model) else known.name)
    declared = _declared(model, Chosen(name, known.overrides, chosen.teacher or known.teacher))
    record.check_teacher(declared, folder, known.teacher_sha256)
    record.check_same(declared, folder, narrator.say)
    if chosen.teacher is not None:
        record.moved_teacher(declared, folder)
    return declared


def _train(
    work: Distillation,
    evaluation: AbstractEvaluation | None,
    folder: RunFolder,
    checkpoints: Checkpoints,
    narrator: AbstractNarrator,
) -> EMState:
    with narrator.task("distil", work.step.recipe.steps, shown(work.step.recipe)) as task:
        watch = Watch(work, evaluation, folder, narrator.say, task)
        return run(work, watch.watcher(), checkpoints)


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


@dataclasses.dataclass(frozen=True)
class Judged:
    """A run that was judged.

    Attributes:
        report: the figures.
        step: the step of the checkpoint that they are of.
    """

    report: Report
    step: int


def judge(folder: RunFolder, model_file: Path | None, seed: int, narrator: AbstractNarrator) -> Judged:
    """Judge a run's newest checkpoint, and keep the figures in its evaluation.json.

    Args:
        folder: the run.
        model_file: another place of its model file; by default where it was.
        seed: seed of the samples.
        narrator: told how it goes.

    Raises:
        PplemdError: where the run cannot be read.
    """
    loaded = record.load(folder, model_file, narrator.say)
    model = loaded.declared.model
    teacher = ready_teacher(model.teacher, narrator)
    return Judged(_judge(loaded.distilled, teacher, model.evaluation, folder, seed, narrator), loaded.step)


def load(run_folder: Path | str, model_file: Path | str | None = None) -> Distilled:
    """The generator of a run's newest checkpoint: `em.load("runs/digits").sample(key, 100)`.

    Args:
        run_folder: the run's folder.
        model_file: another place of its model file; by default where it was.

    Raises:
        PplemdError: where the run cannot be read.
    """
    given = None if model_file is None else Path(model_file)
    return record.load(RunFolder(run_folder), given, Terminal().say).distilled


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
    planned = plan(declared.model)
    teacher = ready_teacher(declared.model.teacher, narrator)
    with narrator.task("sample", 1.0) as task:
        drawn = draw_teacher(teacher, planned.labels, seed, task.to)
    save_png(picture, draw(drawn.x, teacher.shape))
    return drawn.seconds_per_1000
