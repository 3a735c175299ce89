"""What a model file declares: a program, its teacher, its labels, its recipe, its evaluation."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray

from pplemd.dsl import Problem, Program, explained, trace
from pplemd.errors import ProgramError, RecipeError, TeacherError
from pplemd.importers import Imported
from pplemd.learning import Labels, Recipe, Taught, uniform_labels
from pplemd.metrics import AbstractEvaluation
from pplemd.tasks.override import check_fields
from pplemd.teachers import AbstractDenoiser, AbstractTeacher, check, unguided


@dataclasses.dataclass(frozen=True)
class Model:
    """One distillation, declared. Nothing is computed until it is planned or distilled.

    Attributes:
        program: builds the student program, `(teacher, key) -> Program`.
        teacher: the prior: a ready teacher, one to be taught on data (`em.teach`), or one that its user brings
            (`em.imported`).
        recipe: how to distil.
        labels: the class prior; by default every class of the teacher is equally likely.
        score_network: builds the student's score network from a key; by default a copy of the teacher's denoiser,
            without its guidance.
        evaluation: how to judge samples; by default against the teacher's own draws.
    """

    program: Callable[[AbstractTeacher, PRNGKeyArray], Program]
    teacher: AbstractTeacher | Taught | Imported
    recipe: Recipe = Recipe()
    labels: Labels | None = None
    score_network: Callable[[PRNGKeyArray], AbstractDenoiser] | None = None
    evaluation: AbstractEvaluation | None = None

    def __post_init__(self):
        if not callable(self.program) or isinstance(self.program, type | Program):
            raise ProgramError(
                f"the model's `program` is {_found(self.program)}; expected a function that builds one, "
                "`program=lambda teacher, key: Digits(net=em.one_step(teacher, sigma=2.5))`."
            )
        if not isinstance(self.teacher, AbstractTeacher | Taught | Imported):
            raise TeacherError(
                f"the model's `teacher` is {_found(self.teacher)}; expected a teacher, such as "
                "em.GaussianMixture(...), em.teachers.ScoreFunction(...), em.teach(network, data) or em.imported(hint)."
            )
        if self.score_network is not None and not callable(self.score_network):
            raise TeacherError(
                f"the model's `score_network` is {_found(self.score_network)}; expected a function that builds one, "
                "`score_network=lambda key: em.Denoiser(...)`."
            )
        for name, kind in (("recipe", Recipe), ("labels", Labels | None), ("evaluation", AbstractEvaluation | None)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise RecipeError(f"the model's `{name}` is {_found(value)}; expected {_KINDS[name]}.")


_KINDS = {
    "recipe": "em.Recipe(...)",
    "labels": "em.Labels(weights), or to leave it out",
    "evaluation": "an evaluation such as em.metrics.ImageEvaluation(data), or to leave it out",
}


def _found(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


@dataclasses.dataclass(frozen=True)
class Plan:
    """A model traced: shapes and types of everything, no array yet.

    Attributes:
        model: what was declared.
        teacher: the teacher; of shapes alone where it is still to be taught, or read from a checkpoint.
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
    check_fields(model.recipe, "recipe")
    declared = model.teacher
    with explained("the teacher to be built, and to be asked once on traced values"):
        teacher = model.recipe.compute.of(_of_shapes(declared))
        check(teacher)
    key = jax.random.key(0)
    with explained("the model's `program` to build one"):
        program = eqx.filter_eval_shape(build_program, model, teacher, key)
    problem = trace(program, shape=teacher.shape, classes=teacher.classes)
    _check_reached(problem)
    with explained("the model's `score_network` to build one"):
        score_network = eqx.filter_eval_shape(build_score_network, model, teacher, key)
    return Plan(model, teacher, program, score_network, problem, _labels(model, problem))


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


def _of_shapes(declared: AbstractTeacher | Taught | Imported) -> AbstractTeacher:
    if isinstance(declared, Taught):
        return declared.guided(eqx.filter_eval_shape(declared.build))
    return declared.shapes() if isinstance(declared, Imported) else declared


def build_program(model: Model, teacher: AbstractTeacher, key: PRNGKeyArray) -> Program:
    """The student program at its start.

    Raises:
        ProgramError: where the model's function builds something else.
    """
    program = model.recipe.compute.of(model.program(teacher, key))
    if not isinstance(program, Program):
        raise ProgramError(
            f"the model's `program` built {_found(program)}; expected an instance of a class that derives "
            "from em.Program, as in `program=lambda teacher, key: Digits(net=em.one_step(teacher, sigma=2.5))`."
        )
    return program


def build_score_network(model: Model, teacher: AbstractTeacher, key: PRNGKeyArray) -> AbstractDenoiser:
    """The student's score network at its start.

    Raises:
        TeacherError: where there is none to copy, or nothing in the copy to train, or it is of another shape than the
            teacher.
    """
    if model.score_network is None:
        if not isinstance(teacher, AbstractDenoiser):
            raise TeacherError(
                f"the student's score network is a copy of the teacher's denoiser by default, and a "
                f"{type(teacher).__name__} has none. Give the model a `score_network=lambda key: em.Denoiser(...)`."
            )
        copied = model.recipe.compute.of(unguided(teacher))
        _see_it_learns(copied, model)
        return copied
    network = model.recipe.compute.of(model.score_network(key))
    if not isinstance(network, AbstractDenoiser):
        raise TeacherError(
            f"the model's `score_network` built {_found(network)}; expected a denoiser, "
            "`score_network=lambda key: em.Denoiser(em.networks.ResidualMLP(...), sigma_data=...)`."
        )
    if network.shape != teacher.shape:
        raise TeacherError(
            f"the score network takes x of shape {network.shape}; the teacher's x has shape {teacher.shape}."
        )
    if network.classes != teacher.classes:
        raise TeacherError(f"the score network has {network.classes} classes; the teacher has {teacher.classes}.")
    check(network)
    return network


def _see_it_learns(copied: AbstractDenoiser, model: Model) -> None:
    """A plain function as the teacher has no parameters: its copy would stay the teacher, whatever the student does."""
    if not model.recipe.method.learns_score or any(map(eqx.is_inexact_array, jax.tree.leaves(copied))):
        return
    raise TeacherError(
        f"the student's score network is a copy of the teacher's denoiser by default, and this {type(copied).__name__} "
        "has no parameters that could be trained. Give the model a `score_network=lambda key: "
        f"em.Denoiser(em.networks.ResidualMLP({copied.shape}, key=key), sigma_data=...)`, or make the teacher's "
        "function an Equinox module that holds its weights."
    )


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
