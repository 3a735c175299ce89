"""What a model file declares: a program, its teacher, its labels, its recipe, its evaluation."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from pplemd.dsl import Problem, Program, trace
from pplemd.errors import ProgramError, RecipeError, TeacherError
from pplemd.learning import Labels, Recipe, Taught, uniform_labels
from pplemd.metrics import AbstractEvaluation
from pplemd.teachers import AbstractDenoiser, AbstractTeacher, check


@dataclasses.dataclass(frozen=True)
class Model:
    """One distillation, declared. Nothing is computed until it is planned or distilled.

    Attributes:
        program: builds the student program, `(teacher, key) -> Program`.
        teacher: the prior: a ready teacher, or one to be taught on data (`em.teach`).
        recipe: how to distil.
        labels: the class prior; by default every class of the teacher is equally likely.
        score_network: builds the student's score network from a key; by default a copy of the teacher's denoiser.
        evaluation: how to judge samples; by default against the teacher's own draws.
    """

    program: Callable[[AbstractTeacher, PRNGKeyArray], Program]
    teacher: AbstractTeacher | Taught
    recipe: Recipe = Recipe()
    labels: Labels | None = None
    score_network: Callable[[PRNGKeyArray], AbstractDenoiser] | None = None
    evaluation: AbstractEvaluation | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A model traced: shapes and types of everything, no array yet.

    Attributes:
        model: what was declared.
        teacher: the teacher; of shapes alone where it is still to be taught.
        program: the program, of shapes alone.
        score_network: the student's score network, of shapes alone.
        problem: the traced program.
        labels: the label prior, or None for an unconditional program.
    """

    model: Model
    teacher: AbstractTeacher
    program: Program
    score_network: AbstractDenoiser
    problem: Problem
    labels: Labels | None


def plan(model: Model) -> Plan:
    """Trace a model once, abstractly; every mistake that can be seen without running it is found here.

    Raises:
        ProgramError: where the program cannot be distilled.
        TeacherError: where the teacher does not meet its contract.
        RecipeError: where labels or score network do not fit.
    """
    taught = isinstance(model.teacher, Taught)
    teacher = eqx.filter_eval_shape(model.teacher.build) if taught else model.teacher
    check(teacher)
    key = jax.random.key(0)
    program = eqx.filter_eval_shape(build_program, model, teacher, key)
    score_network = eqx.filter_eval_shape(build_score_network, model, teacher, key)
    problem = trace(program, shape=teacher.shape, classes=teacher.classes)
    return Plan(model, teacher, program, score_network, problem, _labels(model, problem))


def build_program(model: Model, teacher: AbstractTeacher, key: PRNGKeyArray) -> Program:
    """The student program at its start.

    Raises:
        ProgramError: where the model's function builds something else.
    """
    program = model.program(teacher, key)
    if not isinstance(program, Program):
        raise ProgramError(
            f"the model's `program` built a {type(program).__name__}; expected an instance of a class that derives "
            "from em.Program, as in `program=lambda teacher, key: Digits(net=em.one_step(teacher, sigma=2.5))`."
        )
    return program


def build_score_network(model: Model, teacher: AbstractTeacher, key: PRNGKeyArray) -> AbstractDenoiser:
    """The student's score network at its start.

    Raises:
        TeacherError: where there is none to copy, or it is of another shape than the teacher.
    """
    if model.score_network is None:
        if not isinstance(teacher, AbstractDenoiser):
            raise TeacherError(
                f"the student's score network is a copy of the teacher's denoiser by default, and a "
                f"{type(teacher).__name__} has none. Give the model a `score_network=lambda key: em.Denoiser(...)`."
            )
        return teacher
    network = model.score_network(key)
    if network.shape != teacher.shape:
        raise TeacherError(
            f"the score network takes x of shape {network.shape}; the teacher's x has shape {teacher.shape}."
        )
    return network


def _labels(model: Model, problem: Problem) -> Labels | None:
    if problem.classes is None:
        if model.labels is not None:
            raise RecipeError(
                "the model declares a label prior, but its program or teacher takes no label. Write "
                "`def __call__(self, label)` and give a teacher with classes, or leave `labels` out."
            )
        return None
    labels = model.labels or uniform_labels(problem.classes)
    if labels.classes != problem.classes:
        raise RecipeError(f"the label prior has {labels.classes} classes; the teacher has {problem.classes}.")
    return labels
