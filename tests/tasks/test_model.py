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
    planned = em.Model(build, TEACHER, networks={"score": score()}).plan()
    for tree in (planned.networks["generator"], planned.networks["score"]):
        leaves = [leaf for leaf in jax.tree.leaves(tree) if not isinstance(leaf, float | int)]
        assert leaves
        assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    assert planned.conditions is None
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
        planned = model.plan()
        assert isinstance(planned.teacher, em.Guided)
        assert planned.teacher.guidance == guidance
        assert isinstance(planned.networks["generator"].net.denoiser, em.Denoiser)
        assert isinstance(planned.networks["score"], em.Denoiser)
        stated = configuration(Declared(None, "copy", model, ()))["teacher"]
        assert stated["guidance"] == {"type": "Guidance", "scale": 2.0, "low": 0.1, "high": 5.0}


def test_a_program_may_ignore_its_labels():
    planned = em.Model(build, CLASSES, networks={"score": score(2)}).plan()
    assert planned.conditions == em.Labels([1, 1])
    assert not planned.problem.output.conditioned
    given = em.Model(build, CLASSES, networks={"score": score(2)}, conditions=em.Labels([3, 1])).plan()
    assert given.conditions == em.Labels([3, 1])


def test_the_score_network_is_the_teachers_by_default():
    denoiser = eqx.filter_eval_shape(score(), jax.random.key(0))
    planned = em.Model(build, denoiser).plan()
    assert jax.tree.structure(planned.networks["score"]) == jax.tree.structure(denoiser)


PLAIN = em.teachers.DenoiserFunction(lambda x, sigma: x / (1 + sigma**2), (2,))


def test_a_plain_function_needs_a_score_network_that_can_learn():
    assert em.Model(build, PLAIN, networks={"score": score()}).plan().problem.output.shape == (2,)
    asks_none = em.Model(build, PLAIN, algorithm=em.Consistency())
    assert set(asks_none.plan().networks) == {"generator"}


@pytest.mark.parametrize(
    ("fields", "kind", "phrase"),
    [
        (
            {"conditions": em.Labels([1, 1, 1]), "teacher": CLASSES, "networks": {"score": score(2)}},
            RecipeError,
            "3 classes",
        ),
        (
            {"conditions": em.Labels([1, 1]), "networks": {"score": score()}},
            RecipeError,
            "takes none",
        ),
        (
            {"teacher": CLASSES, "networks": {"score": score()}},
            TeacherError,
            "None; the teacher on Classes(count=2)",
        ),
        (
            {"teacher": CLASSES, "networks": {"score": score(3)}},
            TeacherError,
            "(count=3); the teacher on",
        ),
        ({}, TeacherError, "a GaussianMixture has none"),
        ({"teacher": PLAIN}, TeacherError, "this DenoiserFunction has no parameters that could be trained"),
        ({"program": Free}, ProgramError, "`program` is the class Free"),
    ],
)
def test_mistakes(fields, kind, phrase):
    with pytest.raises(kind) as caught:
        em.Model(**{"program": build, "teacher": TEACHER, **fields}).plan()
    assert phrase in str(caught.value)


def test_build_program_is_settled_by_its_key():
    model = em.Model(build, TEACHER)
    first, again = (model.build_program(TEACHER, jax.random.key(3)).weight for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.any(first == model.build_program(TEACHER, jax.random.key(4)).weight)


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
            networks={"score": score()},
        )
        if not trained:
            assert model.plan().problem.sites[0].base == "prior"
            continue
        with pytest.raises(ProgramError, match="'z' has a StudentT whose parameters are trained; expected"):
            model.plan()


class WithCritic(em.DiffInstruct):
    """An algorithm that trains a further network."""

    def optimisers(self):
        return {**super().optimisers(), "critic": em.Adam()}


def test_a_network_that_is_missing_is_named():
    model = em.Model(build, TEACHER, WithCritic(), networks={"score": score()})
    with pytest.raises(TeacherError, match="WithCritic trains a network 'critic', which the model does not have"):
        model.plan()
