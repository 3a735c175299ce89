"""A distillation: a program that learns from a teacher; declared, planned, put together, judged."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from pplemd.algorithms import EMD, AbstractDistillation, DistillationContext
from pplemd.conditions import AbstractConditionPrior, Labels, same_shapes
from pplemd.devices import Devices, chosen
from pplemd.dsl import Problem, Program, explained, trace
from pplemd.errors import ProgramError, RecipeError, TeacherError
from pplemd.importers import Imported
from pplemd.keys import named
from pplemd.learning import History, Step, Training, TrainState
from pplemd.metrics import AbstractEvaluation, AbstractMeasure, prepared
from pplemd.report.progress import AbstractReporter
from pplemd.tasks import describing, drawing, e_step_diagnosis
from pplemd.tasks.base import (
    AbstractPlan,
    AbstractReport,
    AbstractTask,
    ChainOptions,
    Drawings,
    DrawOptions,
    EvaluationOptions,
    ShapesT,
    Work,
    Written,
)
from pplemd.tasks.evaluation import GLANCE, Report, evaluate, glance, instead
from pplemd.tasks.report_pictures import ReportPictures
from pplemd.tasks.results import Distilled, narrow
from pplemd.tasks.teacher_training import (
    AnyTeacher,
    Taught,
    at_rest,
    ready_teacher,
    teacher_described,
    teacher_facts,
    teacher_shapes,
)
from pplemd.teachers import AbstractDenoiser, AbstractTeacher, check, codec_of, trainable


@dataclasses.dataclass(frozen=True)
class Model(AbstractTask):
    """One distillation, declared. Nothing is computed until it is planned or distilled.

    Attributes:
        program: builds the student program, `(teacher, key) -> Program`.
        teacher: the prior: a ready teacher, one to be taught on data (`em.teach`), or one that its user brings
            (`em.imported`).
        algorithm: how the generator learns, and by which numbers.
        training: how long, how often, in which precision.
        conditions: the prior of what conditions it; by default every class of the teacher is equally likely.
        networks: builds the other networks that the algorithm trains, by name, each from a key. The student's score
            network, `score`, is by default a copy of the teacher's denoiser, without its guidance.
        evaluation: how to judge samples; by default against the teacher's own draws.
    """

    program: Callable[[AbstractTeacher, PRNGKeyArray], Program]
    teacher: AnyTeacher
    algorithm: AbstractDistillation = EMD()
    training: Training = Training()
    conditions: AbstractConditionPrior | None = None
    networks: Mapping[str, Callable[[PRNGKeyArray], PyTree]] = dataclasses.field(default_factory=dict)
    evaluation: AbstractEvaluation | None = None
    command: ClassVar[str] = "distill"

    def __post_init__(self):
        if not callable(self.program) or isinstance(self.program, type | Program):
            raise ProgramError(
                f"the model's `program` is {_found(self.program)}; expected a function that builds one, "
                "`program=lambda teacher, key: Digits(net=em.one_step(teacher, sigma=2.5))`."
            )
        if not isinstance(self.teacher, AnyTeacher):
            raise TeacherError(
                f"the model's `teacher` is {_found(self.teacher)}; expected a teacher, such as "
                "em.GaussianMixture(...), em.teachers.ScoreFunction(...), em.teach(network, data) or em.imported(hint)."
            )
        for name, (kind, wanted) in KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise RecipeError(f"the model's `{name}` is {_found(value)}; expected {wanted}.")
        for name, build in self.networks.items():
            if not callable(build):
                raise TeacherError(
                    f"the model's network {name!r} is {_found(build)}; expected a function that builds one, "
                    f"`networks={{{name!r}: lambda key: em.Denoiser(...)}}`."
                )

    @property
    def words(self) -> str:
        """What it is."""
        return "an em.Model, whose program is distilled from a teacher"

    @property
    def imported(self) -> Imported | None:
        """Its teacher, where it is one that the user brings."""
        return self.teacher if isinstance(self.teacher, Imported) else None

    def with_teacher(self, path: Path) -> "Model":
        """The same with the checkpoint of its teacher.

        Raises:
            RecipeError: where it has a teacher of its own.
        """
        if not isinstance(self.teacher, Imported):
            raise RecipeError(
                f"--teacher {path}: this model has a teacher of its own, so it takes none. Leave --teacher out, or "
                "declare the model's teacher as em.imported(hint)."
            )
        return dataclasses.replace(self, teacher=self.teacher.at(path.absolute()))

    def narrowed(self) -> "Model":
        """The same, its teacher one that can be evaluated in the 32-bit mode."""
        if not isinstance(self.teacher, AbstractTeacher):
            return self
        return dataclasses.replace(self, teacher=narrow(self.teacher))

    def changed(self, overrides: Sequence[str]) -> "Model":
        """The same with some of its numbers replaced, or of its teacher's where that is taught."""
        of_teacher = [one for one in overrides if one.startswith("teacher.")]
        if of_teacher and not isinstance(self.teacher, Taught):
            raise RecipeError(
                f"--set {of_teacher[0]}: this model's teacher is not taught, so it has no numbers to set."
            )
        return super().changed(overrides)

    def learned_from(self) -> dict[str, object]:
        """Its teacher, by digests."""
        return {"teacher": teacher_facts(self.teacher)}

    def plan(self) -> "Plan":
        """Trace it once, abstractly; every mistake that can be seen without running it is found here.

        Raises:
            ProgramError: where the program cannot be distilled.
            TeacherError: where the teacher does not meet its contract, or a network does not fit.
            RecipeError: where conditions or numbers do not fit.
        """
        self.check_numbers()
        with explained("the teacher to be built, and to be evaluated once on traced values"):
            teacher = self.training.precision.of(teacher_shapes(self.teacher))
            check(teacher)
        key = jax.random.key(0)
        with explained("the model's `program` to build one"):
            program = eqx.filter_eval_shape(self.build_program, teacher, key)
        problem = trace(program, shape=teacher.shape, condition=teacher.condition)
        _check_reached(problem)
        with explained("the model's `networks` to be built"):
            networks = eqx.filter_eval_shape(self.build_networks, teacher, key)
        conditions = _prior(self, problem)
        return Plan(problem, self, teacher, {"generator": program, **networks}, conditions)

    def build_program(self, teacher: AbstractTeacher, key: PRNGKeyArray) -> Program:
        """The student program at its start.

        Raises:
            ProgramError: where the model's function builds something else.
        """
        program = self.training.precision.of(self.program(teacher, key))
        if not isinstance(program, Program):
            raise ProgramError(
                f"the model's `program` built {_found(program)}; expected an instance of a class that derives "
                "from em.Program, as in `program=lambda teacher, key: Digits(net=em.one_step(teacher, sigma=2.5))`."
            )
        return program

    def build_networks(self, teacher: AbstractTeacher, key: PRNGKeyArray) -> dict[str, PyTree]:
        """The other networks that the algorithm trains, at their start, by name.

        Raises:
            TeacherError: where one is missing, or does not fit.
        """
        found, precision = {}, self.training.precision
        for name in self.algorithm.optimisers():
            if name == "score":
                found[name] = self._score_network(teacher, key)
            elif name != "generator":
                if name not in self.networks:
                    raise TeacherError(
                        f"{type(self.algorithm).__name__} trains a network {name!r}, which the model does not have; "
                        f"expected `networks={{{name!r}: lambda key: ...}}` in em.Model(...)."
                    )
                found[name] = precision.of(self.networks[name](named(key, name)))
        return found

    def _score_network(self, teacher: AbstractTeacher, key: PRNGKeyArray) -> AbstractDenoiser:
        """The student's score network: the model's own, or a copy of the teacher's denoiser."""
        if "score" not in self.networks:
            if not isinstance(teacher, AbstractDenoiser):
                raise TeacherError(
                    f"the student's score network is a copy of the teacher's denoiser by default, and a "
                    f"{type(teacher).__name__} has none. Give the model "
                    '`networks={"score": lambda key: em.Denoiser(...)}`.'
                )
            copy = self.training.precision.of(trainable(teacher))
            if any(map(eqx.is_inexact_array, jax.tree.leaves(copy))):
                return copy
            raise TeacherError(  # a plain function has no parameters: its copy would stay the teacher
                "the student's score network is a copy of the teacher's denoiser by default, and this "
                f"{type(copy).__name__} has no parameters that could be trained. Give the model "
                '`networks={"score": lambda key: em.Denoiser(em.networks.ResidualMLP('
                f"{copy.shape}, key=key), sigma_data=...)}}`, or make the teacher's function an Equinox module that "
                "holds its weights."
            )
        network = self.training.precision.of(self.networks["score"](key))
        if not isinstance(network, AbstractDenoiser):
            raise TeacherError(
                f"the model's network 'score' is {_found(network)}; expected a denoiser, "
                '`networks={"score": lambda key: em.Denoiser(em.networks.ResidualMLP(...), sigma_data=...)}`.'
            )
        if network.shape != teacher.shape:
            raise TeacherError(
                f"the score network takes x of shape {network.shape}; the teacher's x has shape {teacher.shape}."
            )
        if not same_shapes(network.condition, teacher.condition):
            raise TeacherError(
                f"the score network is conditioned on {network.condition}; the teacher on {teacher.condition}."
            )
        check(network)
        return network


KINDS = {
    "algorithm": (AbstractDistillation, "an algorithm such as em.EMD(...), em.DMD(...) or one of your own"),
    "training": (Training, "em.Training(...)"),
    "conditions": (AbstractConditionPrior | None, "a prior such as em.Labels(weights), or to leave it out"),
    "networks": (Mapping, 'functions by name, `networks={"score": lambda key: em.Denoiser(...)}`, or to leave it out'),
    "evaluation": (
        AbstractEvaluation | None,
        "an evaluation such as em.metrics.ImageEvaluation(data), or to leave it out",
    ),
}


@dataclasses.dataclass(frozen=True)
class Plan(AbstractPlan[Distilled]):
    """A model traced: shapes and types of everything, no array yet.

    Attributes:
        problem: the traced program.
        model: what was declared.
        teacher: the teacher; of shapes alone where it is still to be taught, or read from a checkpoint.
        networks: those that learn, by name, of shapes alone.
        conditions: the prior of its conditions, or None for an unconditional program.
    """

    problem: Problem
    model: Model
    teacher: AbstractTeacher
    networks: dict[str, PyTree]
    conditions: AbstractConditionPrior | None

    @property
    def task(self) -> Model:
        """What was declared."""
        return self.model

    def result(self, state: TrainState) -> Distilled:
        """The generator of a state: the averaged program."""
        return Distilled(self.problem, state.averages["generator"], self.conditions, codec_of(self.teacher))

    def devices(self, mesh: str | None) -> Devices:
        """All that divide the batch, or those of a mesh."""
        return chosen(mesh, self.model.training.batch)

    def shapes_of(self, function: Callable[[Work[Distilled]], ShapesT]) -> ShapesT:
        """What a function gives of the work, as shapes; the teacher need not be ready."""
        return eqx.filter_eval_shape(lambda teacher: function(self.assemble(teacher)), self.teacher)

    def build(self, reporter: AbstractReporter, devices: Devices) -> Work[Distilled]:
        """Get the teacher ready, and draw what the algorithm needs beforehand."""
        teacher, algorithm = ready_teacher(self.model.teacher, reporter, devices), self.model.algorithm
        # where it is evaluated in 16 bits, the whole one waits on the host for the end
        again = at_rest(teacher) if self.model.training.precision.bf16 else lambda: teacher
        declared = self.model.evaluation
        evaluation = None if declared is None else prepared(declared)  # once, for the way and the end
        drawn = algorithm.preparation()
        if drawn is None:
            work = self.assemble(teacher, again=again)
        else:
            with reporter.progress(drawn, 1) as progress:
                work = self.assemble(teacher, progress.to, again)
        measure = None if evaluation is None else evaluation.prepare()
        count = GLANCE if evaluation is None else min(GLANCE, evaluation.count)
        follow = None if measure is None else functools.partial(_glance, measure, count)
        judge = functools.partial(self._judged, again, evaluation)
        return dataclasses.replace(work, glance=follow, judge=judge)

    def assemble(
        self,
        teacher: AbstractTeacher,
        advance: Callable[[float], None] = lambda share: None,
        again: Callable[[], AbstractTeacher] | None = None,
    ) -> Work[Distilled]:
        """Put the plan and its ready teacher together.

        Args:
            teacher: the teacher, ready.
            advance: called with the share of the algorithm's preparation that is done.
            again: gives the teacher once more, for the networks that start as copies of it; by default the teacher is
                kept beside the one that the step evaluates, whose weights may be narrower.
        """
        training, algorithm = self.model.training, self.model.algorithm
        precision, source = training.precision, again or (lambda: teacher)
        teacher = precision.of(teacher)
        key_program, key_score, key_run = jax.random.split(jax.random.key(training.seed), 3)
        context = DistillationContext(training, self.problem, teacher, self.conditions)
        drawn = algorithm.prepare(context, key_program, advance)
        step = Step(dataclasses.replace(context, teacher=precision.kept(teacher), prepared=drawn), algorithm)

        def initial() -> TrainState:
            whole = precision.of(source())
            generator = self.model.build_program(whole, key_program)
            return step.init({"generator": generator, **self.model.build_networks(whole, key_score)})

        return Work(step, initial, key_run, self.result, Distilled.picture)

    def judge(
        self,
        result: Distilled,
        options: EvaluationOptions,
        history: History,
        reporter: AbstractReporter,
        known: AbstractReport | None = None,
    ) -> Report:
        """Judge a generator beside its teacher."""
        evaluation = instead(self.model.evaluation, options)
        teacher = ready_teacher(self.model.teacher, reporter)
        return self._judged(lambda: teacher, evaluation, result, options, history, reporter, known)

    def _judged(
        self,
        teacher: Callable[[], AbstractTeacher],
        evaluation: AbstractEvaluation | None,
        result: Distilled,
        options: EvaluationOptions,
        history: History,
        reporter: AbstractReporter,
        known: AbstractReport | None,
    ) -> Report:
        with reporter.progress("judge", 1.0) as progress:
            other = known if isinstance(known, Report) else None
            return evaluate(result, teacher(), evaluation, options.seed, progress.to, other, progress.phase)

    def described(self) -> dict[str, object]:
        """What is declared of program, teacher and networks."""
        problem, output, algorithm = self.problem, self.problem.output, self.model.algorithm
        networks = {name: network for name, network in self.networks.items() if name != "generator"}
        return {
            "output": {
                "name": output.name,
                "shape": list(output.shape),
                "depends_on": list(output.parents),
                "conditioned": output.conditioned,
                "centered": output.centered,
                "coordinates": algorithm.coordinates(problem),
            },
            "classes": problem.classes,
            "teacher": teacher_described(self.model.teacher, self.teacher),
            "networks": {
                **describing.fields(problem.name, self.networks["generator"]),
                **{f"{name} network": describing.parameters(network) for name, network in networks.items()},
                "teacher": describing.parameters(self.teacher),
            },
            "counts": {"chains": self.model.training.batch, **algorithm.counts()},
        }

    def draw(self, result: Distilled, step: int, options: DrawOptions, reporter: AbstractReporter) -> Written:
        """Draw samples of the generator, corrected or beside the teacher's where that is wanted."""
        if options.side_by_side:
            teacher = ready_teacher(self.model.teacher, reporter)
            return drawing.draw_side_by_side(result, teacher, step, options, reporter)
        return drawing.draw_result(result, self.teacher, step, options, reporter)

    def diagnose(
        self, state: TrainState, options: ChainOptions, folder: Path, reporter: AbstractReporter
    ) -> e_step_diagnosis.Diagnosis:
        """Run long chains of the E-step's target at several sigma."""
        teacher = ready_teacher(self.model.teacher, reporter)
        context = DistillationContext(self.model.training, self.problem, teacher, self.conditions)
        return e_step_diagnosis.diagnose(context, self.model.algorithm, state, options, folder, reporter)

    def report_data(self, state: TrainState, note: Callable[[str], None]) -> Drawings:
        """Step sizes and coordinates; samples, paths between them; a posterior's own names; the teacher's samples."""
        algorithm = self.model.algorithm

        def corrections(teacher: AbstractTeacher, key: PRNGKeyArray) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
            context = DistillationContext(self.model.training, self.problem, teacher, self.conditions)
            sigmas = e_step_diagnosis.typical_sigmas(algorithm.sigmas)
            return e_step_diagnosis.corrections(context, algorithm, state, sigmas, key)

        shown = ReportPictures(self.result(state), self.model.teacher, self.teacher, corrections, note)
        return {
            "Its tuning": lambda: {"by_sigma": algorithm.by_sigma(state), "shape": self.problem.output.shape},
            "Its samples": shown.samples,
            "Its posterior": shown.posterior,
            "Its teacher": shown.of_teacher,
        }


def distillation_of(task: AbstractTask, name: str, place: Path | None) -> Model:
    """A task that has a teacher to distil.

    Raises:
        RecipeError: where it has none.
    """
    task.refuse_command(Model.command, name, place)
    assert isinstance(task, Model)
    return task


def _glance(measure: AbstractMeasure, count: int, result: Distilled, key: PRNGKeyArray) -> dict[str, float]:
    return glance(result, measure, key, count)


def _check_reached(problem: Problem) -> None:
    """Raise where a distillation would not train all of a program: it trains what maps noise to x, and nothing else."""
    for site in problem.sites:
        if site.learned and site.base == "prior":
            raise ProgramError(
                f"{problem.name}: the latent {site.name!r} has a {site.family} whose parameters are trained; expected "
                "trained parameters in families that are made of normal noise alone (Normal, LogNormal, "
                f"MultivariateNormal, Uniform, Exponential, ...): the draws of a {site.family} are not, so that a "
                "distillation would leave them as they are. Fix its parameters, and let the generator's network shape "
                "its values."
            )


def _prior(model: Model, problem: Problem) -> AbstractConditionPrior | None:
    """The prior of a program's conditions: the model's own, or by default every class equally likely."""
    form = problem.condition
    if form is None:
        if model.conditions is not None:
            raise RecipeError(
                "the model declares a prior of conditions, but its program or teacher takes none. Write "
                "`def __call__(self, label)` and give a teacher with a condition, or leave `conditions` out."
            )
        return None
    if model.conditions is None:
        if problem.classes is None:
            raise RecipeError(
                f"the model is conditioned on {form.words}, and has no prior of it; expected one, such as "
                "`conditions=em.conditions.Listed(values)` in em.Model(...)."
            )
        return Labels.uniform(problem.classes)
    if not model.conditions.fits(form):
        raise RecipeError(f"the prior of conditions is of {model.conditions.words}; the teacher takes {form.words}.")
    return model.conditions


def _found(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
