"""A fit: a program that observes data, fitted to them; declared, planned, put together, judged."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from pplemd.algorithms import FitContext, MonteCarloEM, convergence
from pplemd.devices import Devices
from pplemd.dsl import Column, Problem, Program, constants, explained, trace_observed
from pplemd.errors import DataError, ProgramError, RecipeError
from pplemd.learning import History, Step, Training, TrainState
from pplemd.report.progress import AbstractReporter
from pplemd.tasks import describing, fit_results
from pplemd.tasks.base import (
    AbstractPlan,
    AbstractReport,
    AbstractTask,
    ChainOptions,
    Diagnostics,
    Drawings,
    DrawOptions,
    EvaluationOptions,
    ShapesT,
    Work,
    Written,
)
from pplemd.tasks.fit_results import FitReport, judge_fit
from pplemd.tasks.report_pictures import picture_count
from pplemd.tasks.results import Fitted

BLOCK = 4096  # rows of data that are read together


@dataclasses.dataclass(frozen=True, eq=False)
class Fit(AbstractTask):
    """A program fitted to what it observes, declared. Nothing is computed until it is fitted.

        radon = em.Fit(program=lambda key: Radon(mean=jnp.zeros(())), data={"floor": floor, "y": y})

    Attributes:
        program: builds the program, `key -> Program`; its `__call__` declares latents and observes data.
        data: a column for each parameter of the program's `__call__`, which is given whole columns, or, where the
            algorithm takes minibatches, one row of each. Memory-mapped columns of rows stay on the host.
        algorithm: how it is fitted, and by which numbers.
        training: how long, and how often to do what.
        diagnostics: what it is judged by at its end.
    """

    program: Callable[[PRNGKeyArray], Program]
    data: Mapping[str, Column] = dataclasses.field(default_factory=dict)
    algorithm: MonteCarloEM = MonteCarloEM()
    training: Training = Training(steps=2000, log_every=25)
    diagnostics: Diagnostics = Diagnostics()
    command: ClassVar[str] = "fit"
    single: ClassVar[bool] = False
    numbers: ClassVar[tuple[str, ...]] = ("algorithm", "training", "diagnostics")

    def __post_init__(self):
        if not callable(self.program) or isinstance(self.program, type | Program):
            raise ProgramError(
                f"the fit's `program` is {_found(self.program)}; expected a function that builds one, "
                "`program=lambda key: Radon(mean=jnp.zeros(()))`."
            )
        if not isinstance(self.data, Mapping) or not all(isinstance(name, str) for name in self.data):
            raise DataError(
                f"the fit's `data` are {_found(self.data)}; expected columns by name, "
                'data={"image": em.data.digits().train.x} for a program with __call__(self, image).'
            )
        for name, kind in (("algorithm", MonteCarloEM), ("training", Training), ("diagnostics", Diagnostics)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise RecipeError(f"the fit's `{name}` is {_found(value)}; expected em.{kind.__name__}(...).")

    @property
    def words(self) -> str:
        """What it is."""
        return "an em.Fit, whose program observes data"

    def learned_from(self) -> dict[str, object]:
        """Its data, by their digest."""
        return {"data": data_digest(self.plan())}

    def plan(self) -> "FitPlan":
        """Trace it once, abstractly; every mistake that can be seen without running it is found here.

        Raises:
            ProgramError: where the program observes nothing, or has latents that rows would split, or takes other data.
            DataError: where the data are no columns of numbers.
            RecipeError: where a field is of another type.
        """
        self.check_numbers()
        met: list[Program] = []

        def build(key: PRNGKeyArray) -> Program:
            met.append(self.build_program(key))
            return met[-1]

        with explained("the fit's `program` to build one"):
            shapes = eqx.filter_eval_shape(build, jax.random.key(0))
            arrays = [leaf for leaf in jax.tree.leaves(met) if isinstance(leaf, jax.Array)]
            if not all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in arrays):
                met.append(self.build_program(jax.random.key(0)))  # JAX's whole numbers have no values while traced
        known = constants(met[-1])  # for each leaf the array, where it is one that is not trained: data, too
        rows = 1 if self.algorithm.minibatches else None
        problem = trace_observed(shapes, data=self.data, rows=rows, constants=known)
        if rows and len(problem.plates) != 1:
            names = ", ".join(plate.name for plate in problem.plates) or "none"
            raise RecipeError(
                "an algorithm with minibatches=True takes some rows of the data, or of the program's one plate; found "
                f"no data and the plates {names}. Declare the program for one row, __call__(self, image) with "
                'em.Fit(data={"image": images}), or within one `with em.plate("rows", size) as rows`; or leave '
                "minibatches out."
            )
        return FitPlan(problem, self, shapes)

    def build_program(self, key: PRNGKeyArray) -> Program:
        """The program at its start.

        Raises:
            ProgramError: where the fit's function builds something else.
        """
        program = self.program(key)
        if not isinstance(program, Program):
            raise ProgramError(
                f"the fit's `program` built {_found(program)}; expected an instance of a class that derives from "
                "em.Program, as in `program=lambda key: Radon(mean=jnp.zeros(()))`."
            )
        return program


@dataclasses.dataclass(frozen=True)
class FitPlan(AbstractPlan[Fitted]):
    """A fit traced: shapes and types of everything.

    Attributes:
        problem: the traced program with its data; of one row where a step looks at some rows.
        fit: what was declared.
        program: the program, of shapes alone.
    """

    problem: Problem
    fit: Fit
    program: Program

    @property
    def task(self) -> Fit:
        """What was declared."""
        return self.fit

    def result(self, state: TrainState) -> Fitted:
        """The fitted program of a state: the averaged one."""
        return Fitted(self.problem, state.averages["program"], state.tuning.centering)

    def shapes_of(self, function: Callable[[Work[Fitted]], ShapesT]) -> ShapesT:
        """What a function gives of the work, as shapes."""
        return eqx.filter_eval_shape(lambda: function(self.assemble()))

    def build(self, reporter: AbstractReporter, devices: Devices) -> Work[Fitted]:
        """Put it together; nothing has to be drawn beforehand."""
        return dataclasses.replace(self.assemble(), judge=self.judge)

    def assemble(self) -> Work[Fitted]:
        """Put it together."""
        training = self.fit.training
        key_program, key_run = jax.random.split(jax.random.key(training.seed))
        step = Step(FitContext(training, self.problem), self.fit.algorithm)

        def initial() -> TrainState:
            return step.init({"program": self.fit.build_program(key_program)})

        return Work(step, initial, key_run, self.result, Fitted.picture, rows=self.rows)

    @property
    def rows(self) -> int:
        """How many rows a likelihood has that is of one of them; 1 where it is of all data."""
        return next((plate.size for plate in self.problem.plates if plate.rows < plate.size), 1)

    def judge(
        self,
        result: Fitted,
        options: EvaluationOptions,
        history: History,
        reporter: AbstractReporter,
        known: AbstractReport | None = None,
    ) -> FitReport:
        """Judge a fitted program by long chains, an estimate of log p(y), and whether it has converged.

        Raises:
            RecipeError: where something is given that a fit has no use for.
        """
        if options.features is not None or options.data is not None:
            raise RecipeError("a fit is judged by its likelihood and its chains. Leave --features and --data out.")
        with reporter.progress("judge", 1.0) as progress:
            report = judge_fit(result, self.fit.diagnostics, options.seed, progress.to, progress.phase)
        how = self.fit.algorithm.how(self.fit.training)
        return dataclasses.replace(report, convergence=convergence(history, how, self.rows))

    def described(self) -> dict[str, object]:
        """What is declared of the program and what it observes."""
        problem, output, algorithm = self.problem, self.problem.generated, self.fit.algorithm
        plates = {plate.name: plate.size for plate in problem.plates}
        chains = min(self.fit.training.batch, self.rows) if algorithm.minibatches else algorithm.chains
        return {
            "observed": [
                {
                    "name": one.name,
                    "distribution": one.family,
                    "shape": list(one.shape),
                    "depends_on": list(one.parents),
                    "learned": one.learned,
                }
                for one in problem.observed
            ],
            "plates": plates,
            "output": None if output is None else {"name": output.name, "shape": list(output.shape)},
            "networks": describing.fields(problem.name, self.program),
            "counts": {"chains": chains, **algorithm.counts()},
        }

    def draw(self, result: Fitted, step: int, options: DrawOptions, reporter: AbstractReporter) -> Written:
        """Draw what it generates given nothing, or its latents given the data."""
        return fit_results.draw_fit(result, self.fit.diagnostics, step, options, reporter)

    def diagnose(
        self, state: TrainState, options: ChainOptions, folder: Path, reporter: AbstractReporter
    ) -> fit_results.FitDiagnosis:
        """Run long chains of the latents' posterior, non-centered and in the coordinates that are chosen."""
        result, algorithm = self.result(state), self.fit.algorithm
        return fit_results.diagnose_fit(
            result, algorithm, self.fit.diagnostics.rows, int(state.step), options, folder, reporter
        )

    def report_data(self, state: TrainState, note: Callable[[str], None]) -> Drawings:
        """Samples, where it generates something."""
        fitted = self.result(state)
        if self.problem.generated is None:
            return {}

        def samples() -> dict[str, object]:
            x = np.asarray(fitted.sample(jax.random.key(describing.KEY), picture_count(fitted.shape)))
            return {"samples": x.reshape(-1, *fitted.shape), "shape": fitted.shape}

        return {"Its samples": samples}


def data_digest(plan: FitPlan) -> str:
    """SHA-256 of all numbers that the program does not train: its data and its constants, wherever they lie."""
    fields = constants(plan.fit.build_program(jax.random.key(0)))
    closed_over = (*plan.problem.inputs.constants, *plan.problem.graph.jaxpr.consts)
    named = {f"constant {i}": one for i, one in enumerate((*closed_over, *fields)) if one is not None}
    digest = hashlib.sha256()
    for name, array in (named | dict(plan.fit.data)).items():
        numbers = np.asarray(array)
        digest.update(f"{name} {numbers.shape}{numbers.dtype}".encode())
        for start in range(0, max(len(numbers), 1) if numbers.ndim else 1, BLOCK):  # not all of a file at once
            digest.update(np.ascontiguousarray(numbers[start : start + BLOCK] if numbers.ndim else numbers).tobytes())
    return digest.hexdigest()


def _found(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
