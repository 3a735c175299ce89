"""One call from a declared fit to a judged run folder: Monte Carlo EM, then long chains of the posterior."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from pplemd.devices import ONE
from pplemd.dsl import Program
from pplemd.learning import FitRecipe, FitState, Watcher, convergence, fit_alarms, followed, remaining
from pplemd.plotting.samples import save_png
from pplemd.report.progress import Terminal
from pplemd.report.reporter import AbstractNarrator, AbstractTask
from pplemd.report.tensorboard import board_of
from pplemd.runs import record
from pplemd.runs.afterwards import saved_in
from pplemd.runs.board_watcher import with_board
from pplemd.runs.journal import Journal
from pplemd.runs.opening import Chosen, opened
from pplemd.runs.portrait import fit_portrait
from pplemd.storage.ahead import Ahead
from pplemd.storage.checkpoints import Checkpoints
from pplemd.storage.folder import RunFolder, write_json
from pplemd.storage.run_reader import read_remains
from pplemd.tasks.fit_evaluation import FitReport, judge_fit
from pplemd.tasks.fits import Fit, plan_fit
from pplemd.tasks.fitting import Fitted, Fitting, first_fit_shapes, fitting, rows_of, run_fit

SHOWN = ("log_joint", "gradient_norm", "acceptance")


@dataclasses.dataclass(frozen=True)
class FitOutcome:
    """A fit that has ended.

    Attributes:
        fitted: the fitted program: `outcome.fitted.parameters()`.
        report: its parameters, log p(y), and the figures of its latents' chains; None where it was not to be judged.
        folder: the run folder.
        steps: EM steps.
        seconds: wall time of this call.
    """

    fitted: Fitted
    report: FitReport | None
    folder: Path
    steps: int
    seconds: float


def fit(
    model: Fit | Path | str,
    out: Path | str | None = None,
    *,
    name: str | None = None,
    overrides: tuple[str, ...] = (),
    resume: bool = False,
    narrator: AbstractNarrator | None = None,
    tensorboard: bool = False,
    judge: bool = True,
) -> FitOutcome:
    """Fit a program to what it observes, and judge it.

    Args:
        model: a fit, or the path of a file that declares one.
        out: the run folder; by default a new one in runs/, or the fit's newest where the run is resumed.
        name: which fit of the file, where it holds several.
        overrides: changes to the recipe, `path=value`; what the file asks for, `given.name=value`.
        resume: go on with a run that was stopped or killed, bit for bit; one that has ended is judged again.
        narrator: told how it goes; by default the terminal. `em.Silent()` is told in vain.
        tensorboard: keep TensorBoard's files in the run folder too (extra `tensorboard`).
        judge: whether to judge it at the end; `pplemd evaluate` does it later, too.

    Raises:
        PplemdError: where fit, recipe or folder cannot be used; says what to do.
        Interrupted: after SIGINT or SIGTERM, once the run is saved.
    """
    began = time.monotonic()
    told = narrator or Terminal()
    declared, folder = opened(model, out, Chosen(name, tuple(overrides)), resume, told)
    ahead = Ahead(declared.alike)
    goes_on = folder.config.exists()
    with told.preparing("tracing the program and its step"):
        planned = plan_fit(declared.fit)
        first_fit_shapes(planned)  # a mistake in the step shows before there is a folder
    board = board_of(folder.path, tensorboard)
    checkpoints = Checkpoints(folder.checkpoints)  # from here on the folder is this run's own
    try:
        record.begin_or_go_on(declared, folder, ONE, told.say, goes_on)
        told.say(f"{declared.name}: {planned.problem.name} -> {folder.path}")
        work = fitting(planned)
        with (
            told.task("fit", work.step.recipe.steps, SHOWN) as task,
            with_board(watcher(work, folder, told.say, task), board, folder.samples) as followed,
        ):
            state = run_fit(work, followed, checkpoints, ahead=ahead)
    finally:
        checkpoints.close()
    fitted, report = work.fitted(state), None
    if judge:
        with saved_in(folder.path):
            report = judged(fitted, work.step.recipe, folder, 0, told)
    return FitOutcome(fitted, report, folder.path, work.step.recipe.steps, time.monotonic() - began)


def watcher(work: Fitting, folder: RunFolder, say: Callable[[str], None], task: AbstractTask) -> Watcher:
    """What a fit tells while it runs: its figures in metrics.jsonl, parameters among them, and its samples."""
    recipe, size = work.step.recipe, rows_of(work.plan.problem)
    journal = Journal(folder, say, task, lambda lines: fit_alarms(lines, recipe, size))

    def inspect(step: int, state: FitState) -> dict[str, float]:
        found = _floats("parameter", work.plan.problem.split(state.average)[0])
        left = remaining(work.step, work.key, state) if step == recipe.steps else None
        if left is None:
            return found
        told = {"gain": float(left.gain), "gain_error": float(left.error)}
        return found | told | _floats("move", left.move) | _floats("held", left.held)

    def picture(step: int, state: FitState) -> None:
        drawn = fit_portrait(work.fitted(state))
        if drawn is not None:
            save_png(folder.samples, drawn)

    return Watcher(task.to, journal.report, picture, say, journal.begin, inspect, task.phase)


def _floats(what: str, module: Program) -> dict[str, float]:
    return {f"{what}_{path}": float(number) for path, number in followed(module).items()}


def judged(fitted: Fitted, recipe: FitRecipe, folder: RunFolder, seed: int, narrator: AbstractNarrator) -> FitReport:
    """Judge a fitted program, and keep the figures in the run's evaluation.json."""
    with narrator.task("judge", 1.0) as task:
        report = judge_fit(fitted, recipe.judging, seed, task.to, task.phase)
    report = dataclasses.replace(
        report, convergence=convergence(read_remains(folder.path).history, recipe, rows_of(fitted.problem))
    )
    write_json(folder.evaluation, dataclasses.asdict(report))
    return report
