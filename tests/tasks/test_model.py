"""What a model may be made of, and what its plan holds."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.errors import ProgramError, RecipeError, TeacherError
from pplemd.runs.declared import Declared, configuration
from pplemd.tasks.model import build_program, plan

TEACHER = em.GaussianMixture(np.eye(2), 0.3)
CLASSES = em.GaussianMixture(np.eye(2), 0.3, labels=True)


class Free(em.Program):
    weight: jax.Array

    def __call__(self, label=None):
        z = em.latent("z", dist.Normal(jnp.zeros(2), 1.0))
        return em.generate("x", self.weight * z)


def build(teacher, key):
    return Free(jax.random.normal(key, (2,)))


def score(classes=None):
    def made(key):
        return em.Denoiser(em.networks.ResidualMLP((2,), width=4, blocks=1, classes=classes, key=key), sigma_data=1.0)

    return made


def test_a_plan_holds_shapes_and_no_numbers():
    planned = plan(em.Model(build, TEACHER, score_network=score()))
    for tree in (planned.program, planned.score_network):
        leaves = [leaf for leaf in jax.tree.leaves(tree) if not isinstance(leaf, float | int)]
        assert leaves
        assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    assert planned.labels is None
    assert planned.problem.output.shape == (2,)


class Copy(em.Program):
    net: em.OneStep

    def __call__(self, label):
        z = em.latent("z", dist.Normal(jnp.zeros(2), 1.0))
        return em.generate("x", self.net(z, label))


def test_a_guided_teacher_is_copied_without_its_guidance():
    data = em.data.Dataset(*[em.data.Split(np.eye(4, 2, dtype=np.float32), np.zeros(4, np.int32))] * 2, 2)
    guidance = em.Guidance(2.0, 0.1, 5.0)
    taught = em.teach(lambda key: score(2)(key).network, data, guidance=guidance)
    for teacher in (taught, em.Guided(score(2)(jax.random.key(0)), guidance)):
        model = em.Model(lambda teacher, key: Copy(em.one_step(teacher, sigma=1.0)), teacher)
        planned = plan(model)
        assert isinstance(planned.teacher, em.Guided)
        assert planned.teacher.guidance == guidance
        assert isinstance(planned.program.net.denoiser, em.Denoiser)
        assert isinstance(planned.score_network, em.Denoiser)
        stated = configuration(Declared(None, "copy", model, ()))["teacher"]
        assert stated["guidance"] == {"type": "Guidance", "scale": 2.0, "low": 0.1, "high": 5.0}


def test_a_program_may_ignore_its_labels():
    planned = plan(em.Model(build, CLASSES, score_network=score(2)))
    assert planned.labels == em.Labels([1, 1])
    assert not planned.problem.output.labelled
    given = plan(em.Model(build, CLASSES, score_network=score(2), labels=em.Labels([3, 1])))
    assert given.labels == em.Labels([3, 1])


def test_the_score_network_is_the_teachers_by_default():
    denoiser = eqx.filter_eval_shape(score(), jax.random.key(0))
    planned = plan(em.Model(build, denoiser))
    assert jax.tree.structure(planned.score_network) == jax.tree.structure(denoiser)


PLAIN = em.teachers.DenoiserFunction(lambda x, sigma: x / (1 + sigma**2), (2,))


def test_a_plain_function_needs_a_score_network_that_can_learn():
    assert plan(em.Model(build, PLAIN, score_network=score())).problem.output.shape == (2,)
    asks_none = em.Model(build, PLAIN, em.Recipe(method=em.methods.Consistency()))
    assert isinstance(plan(asks_none).score_network, em.teachers.DenoiserFunction)


@pytest.mark.parametrize(
    ("fields", "kind", "phrase"),
    [
        ({"labels": em.Labels([1, 1, 1]), "teacher": CLASSES, "score_network": score(2)}, RecipeError, "3 classes"),
        ({"labels": em.Labels([1, 1]), "score_network": score()}, RecipeError, "takes no label"),
        ({"teacher": CLASSES, "score_network": score()}, TeacherError, "None classes; the teacher has 2"),
        ({"teacher": CLASSES, "score_network": score(3)}, TeacherError, "3 classes; the teacher has 2"),
        ({}, TeacherError, "a GaussianMixture has none"),
        ({"teacher": PLAIN}, TeacherError, "this DenoiserFunction has no parameters that could be trained"),
        ({"program": Free}, ProgramError, "`program` is the class Free"),
    ],
)
def test_mistakes(fields, kind, phrase):
    with pytest.raises(kind) as caught:
        plan(em.Model(**{"program": build, "teacher": TEACHER, **fields}))
    assert phrase in str(caught.value)


def test_build_program_is_settled_by_its_key():
    model = em.Model(build, TEACHER)
    first, again = (build_program(model, TEACHER, jax.random.key(3)).weight for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == build_program(model, TEACHER, jax.random.key(4)).weight)


class Heavy(em.Program):
    """A latent whose tails are heavy, its centre trained or not."""

    centre: jax.Array
    weight: jax.Array
    trained: bool = eqx.field(static=True)

    def __call__(self):
        centre = self.centre if self.trained else 0.0
        z = em.latent("z", dist.StudentT(4.0, centre * jnp.ones(2), 1.0))
        return em.generate("x", self.weight * z)


def test_what_a_distillation_would_not_train_is_refused():
    """The draws of a Student t are no push of normal noise: the M-step's gradient of its centre would be 0."""
    for trained in (False, True):
        model = em.Model(
            lambda teacher, key, trained=trained: Heavy(jnp.zeros(2), jnp.ones(2), trained),
            TEACHER,
            score_network=score(),
        )
        if not trained:
            assert plan(model).problem.sites[0].base == "prior"
            continue
        with pytest.raises(ProgramError, match="'z' has a StudentT whose parameters are trained; expected"):
            plan(model)
