"""One call from a model to a comparison: ordinary run folders, finished ones kept, then a table and pictures."""

import dataclasses
import gc
from pathlib import Path
from typing import Any

import jax

from pplemd.comparison.contenders import Budget, Contender, forwards_per_step, seconds_per_step
from pplemd.comparison.plots import draw_curves, draw_samples
from pplemd.comparison.table import differences, markdown, means
from pplemd.devices import ONE
from pplemd.errors import CheckpointError, DivergenceError, RecipeError
from pplemd.report.progress import AbstractReporter, Terminal
from pplemd.runs import record
from pplemd.runs.declared import declare, environment
from pplemd.runs.session import distil
from pplemd.storage.folder import RunFolder, read_json, see_it_is_free, snapshots, write, write_json
from pplemd.tasks.evaluation import Report

POINTS = 20  # of a curve: in-run figures are taken so often
TITLES = {"frechet": "Frechet", "frechet_train": "Frechet (train)", "class_kl": "class KL", "kid": "KID"}
AGAIN = "Move it away, and the comparison makes it again."
PROTOCOL = (
    "every algorithm starts from the same networks and keys of a seed, with the same numbers but for its own changes; "
    "judged is the moving average after the last step, not the best one on the way; samples are counted in `count`, "
    "and drawn anew for each seed, the same draws for every algorithm and the teacher; s.d. are over seeds"
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        model: the model file.
        name: which of its models; None where it holds one.
        methods: the contenders, the first of which the others are compared with.
        budget: what each may spend.
        seeds: how many; 0, 1, ...
        overrides: changes to the numbers, for all of them.
        teacher: the teacher's checkpoint, where its user brings it.
    """

    model: Path
    name: str | None
    methods: tuple[Contender, ...]
    budget: Budget
    seeds: int
    overrides: tuple[str, ...] = ()
    teacher: Path | None = None


@dataclasses.dataclass(frozen=True)
class Compared:
    """A comparison that has ended.

    Attributes:
        folder: where it lies: compare.json, table.md, curves.png, samples.png, and a run folder for each run.
        found: what compare.json holds.
    """

    folder: Path
    found: dict[str, Any]


def compare(comparison: Comparison, out: Path | str, reporter: AbstractReporter | None = None) -> Compared:
    """Distil a model by several methods, over seeds, and compare what comes out.

    The same call again goes on where it stopped: runs that ended are kept, one that was killed goes on from its last
    checkpoint, methods and seeds may be added. After each run all of JAX's compiled programs are let go of.

    Args:
        comparison: what is compared.
        out: the folder of the comparison.
        reporter: shows how it goes; by default the terminal.

    Raises:
        PplemdError: where the model, a method or the folder cannot be used.
        Interrupted: after SIGINT or SIGTERM, once the run under way is saved.
    """
    # raise where a change is one that the comparison makes itself
    changes = (*comparison.overrides, *(change for one in comparison.methods for change in one.overrides))
    taken = sorted({change.split("=", 1)[0].strip() for change in changes} & {"training.steps", "training.seed"})
    if taken:
        raise RecipeError(
            f"a comparison sets {' and '.join(taken)} of every run itself; expected --budget steps=N (or evaluations, "
            "seconds) and --seeds N. Leave the change out."
        )
    reporter, folder = reporter or Terminal(), Path(out)
    planned = _planned(comparison, folder, reporter)
    runs: list[dict[str, Any]] = []
    for seed in range(comparison.seeds):
        for one in comparison.methods:
            known = _judged(folder, runs, seed)
            runs.append(_run(comparison, one, seed, planned["methods"][one.name], folder, reporter, known))
        found = _found(comparison, planned, runs)  # after each seed, so that a comparison can be looked at under way
        write_json(folder / "compare.json", found)
        write(folder / "table.md", markdown(found, TITLES).encode())
    draw_curves(folder / "curves.png", folder, found)
    draw_samples(folder / "samples.png", folder, comparison, found, reporter)
    return Compared(folder, found)


def _planned(comparison: Comparison, folder: Path, reporter: AbstractReporter) -> dict[str, Any]:
    """What was planned before, with what is new in it: how many steps each method has, and what a step is worth."""
    path = folder / "plan.json"
    if not path.exists() and not (folder / "compare.json").exists():  # its damaged plan may have been moved away
        see_it_is_free(folder, "comparison")
    fixed = {
        "model": str(comparison.model.absolute()),
        "name": comparison.name,
        "overrides": list(comparison.overrides),
        "budget": str(comparison.budget),
    }
    known: dict[str, Any] = {**fixed, "methods": {}}
    if path.exists():
        known = read_json(path, AGAIN)
        other = [name for name, value in fixed.items() if known.get(name) != value]
        if other:
            raise CheckpointError(
                f"{folder} holds a comparison with another {' and '.join(other)}: "
                f"{'; '.join(str(known.get(name)) for name in other)}. Give the same, or choose another folder "
                "by --out."
            )
    for one in comparison.methods:
        if one.name not in known["methods"]:
            # steps of a method under the budget, and forward passes that one of its steps is worth
            declared = declare(
                comparison.model, comparison.name, (*comparison.overrides, *one.overrides), comparison.teacher
            )
            planned = declared.distillation.plan()
            forwards, batch = forwards_per_step(planned), planned.model.training.batch
            spent = 1.0
            if comparison.budget.kind == "evaluations":
                spent = forwards * batch
            elif comparison.budget.kind == "seconds":
                reporter.say(f"{one.name}: its first steps are timed.")
                spent = seconds_per_step(planned.build(reporter, ONE))
            steps = max(1, int(comparison.budget.amount / spent))
            known["methods"][one.name] = {
                "overrides": list(one.overrides),
                "steps": steps,
                "forwards_per_step": forwards,
                "batch": batch,
            }
            write_json(path, known)
    return known


def _judged(folder: Path, runs: list[dict[str, Any]], seed: int) -> Report | None:
    """The report of a run of this seed that has ended: all have one teacher, judged by the same draws once."""
    ended = next((run for run in runs if run["seed"] == seed and "student" in run), None)
    if ended is None:
        return None
    return Report(**read_json(RunFolder(folder / ended["folder"]).evaluation, AGAIN))


def _run(
    comparison: Comparison,
    one: Contender,
    seed: int,
    planned: dict[str, Any],
    folder: Path,
    reporter: AbstractReporter,
    known: Report | None,
) -> dict[str, Any]:
    """One run: its figures, kept, gone on with, or made now."""
    steps = planned["steps"]
    overrides = (
        f"training.sample_every={max(1, steps // POINTS)}",
        *comparison.overrides,
        *one.overrides,
        f"training.steps={steps}",
        f"training.seed={seed}",
    )
    run = RunFolder(folder / f"{one.folder}-seed{seed}")
    failure = run.path / "failure.json"
    result = {"method": one.name, "seed": seed, "folder": run.path.name}
    begun = record.started_from(run).overrides if run.config.exists() else overrides
    if begun[: len(overrides)] != overrides:  # what its file settles, such as coordinates, comes behind them
        raise CheckpointError(
            f"{run.path} holds a run with other changes than this comparison's. Move it away, or choose another --out."
        )
    judged = _is_judged(run, seed, steps)
    if failure.exists() or judged:  # `distil` sees to one that goes on
        record.check_same(declare(comparison.model, comparison.name, begun, comparison.teacher), run, reporter.say)
    if failure.exists():
        return {**result, "failure": read_json(failure, AGAIN)["failure"]}
    if not judged:
        reporter.say(f"-- {one.name}, seed {seed}: {steps:,} steps")
        try:
            _distilled(comparison, run, overrides, seed, reporter, known)
        except DivergenceError as error:
            reporter.say(f"note: {one.name}, seed {seed} is counted as diverged: {error}")
            write_json(failure, {"failure": str(error)})
            return {**result, "failure": str(error)}
    return {**read_json(run.evaluation, AGAIN), **result}  # the file's own seed is the judge's


def _distilled(
    comparison: Comparison,
    run: RunFolder,
    overrides: tuple[str, ...],
    seed: int,
    reporter: AbstractReporter,
    known: Report | None,
) -> None:
    """Distil, or go on; then let go of what was compiled, which no other run uses: hundreds of MB at times."""
    try:
        distil(
            comparison.model,
            run.path,
            name=comparison.name,
            overrides=overrides,
            resume=run.config.exists(),
            reporter=reporter,
            teacher=comparison.teacher,
            known=known,
            evaluation_seed=seed,
        )
    finally:
        jax.clear_caches()
        gc.collect()


def _is_judged(run: RunFolder, seed: int, steps: int) -> bool:
    """Whether a run has ended, and is judged by its seed's draws: `pplemd evaluate` judges any run, by any draws."""
    if not run.evaluation.exists() or read_json(run.evaluation, AGAIN).get("seed") != seed:
        return False
    return any(int(path.name) >= steps for path in snapshots(run.checkpoints))


def _found(comparison: Comparison, planned: dict[str, Any], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything that compare.json holds."""
    by_method = {
        one.name: {run["seed"]: run["student"] for run in runs if run["method"] == one.name and "student" in run}
        for one in comparison.methods
    }
    first = by_method[comparison.methods[0].name]
    ended = {run["seed"]: run for run in runs if "student" in run}
    rows = {}
    for one in comparison.methods:
        mine = [run for run in runs if run["method"] == one.name]
        rows[one.name] = {
            **planned["methods"][one.name],
            "runs": len(mine),
            "failed": sum("failure" in run for run in mine),
            "figures": means(by_method[one.name]),
            "differences": differences(by_method[one.name], first),
            "by_seed": mine,
        }
    shared = {name: planned[name] for name in ("model", "name", "overrides", "budget")}
    return {
        **shared,
        "seeds": 1 + max(run["seed"] for run in runs),
        "protocol": PROTOCOL,
        "count": next((run["count"] for run in ended.values()), None),
        "floor": means({seed: run["floor"] for seed, run in ended.items()}),
        "teacher": means({seed: run["teacher"] for seed, run in ended.items()}),
        "methods": rows,
        "environment": environment(),
    }
