"""The report: floor, teacher and student by the same figures."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.dsl import trace
from pplemd.errors import DataError, DivergenceError
from pplemd.tasks.evaluation import CHUNK, draw_teacher, evaluate, glance, timed_samples
from pplemd.tasks.results import Distilled

TEACHER = em.GaussianMixture(np.array([[3.0, -1.0]]), 0.5)


class Affine(em.Program):
    loc: jax.Array
    scale: jax.Array

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(2), 1.0))
        return em.generate("x", self.loc + self.scale * z)


def student(loc, scale):
    program = Affine(jnp.asarray(loc), jnp.asarray(scale))
    return Distilled(trace(program, shape=(2,)), program, None)


PERFECT = student([3.0, -1.0], 0.5)


def test_a_perfect_student_is_as_good_as_its_teacher():
    shares = []
    evaluation = em.metrics.MixtureEvaluation(np.array([[3.0, -1.0]]), np.ones(1), 0.5, count=1200)
    report = evaluate(PERFECT, TEACHER, evaluation, seed=1, advance=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert report.count == 1200
    assert report.floor["modes"] == report.teacher["modes"] == report.student["modes"] == 1
    assert report.student["sliced_w2"] < 3 * report.floor["sliced_w2"]
    worse = evaluate(student([3.5, -1.0], 0.5), TEACHER, evaluation, seed=1)
    assert worse.student["sliced_w2"] > 3 * report.student["sliced_w2"]
    assert worse.teacher["sliced_w2"] == report.teacher["sliced_w2"]


def test_a_teacher_that_was_judged_is_not_asked_again(monkeypatch):
    evaluation = em.metrics.MixtureEvaluation(np.array([[3.0, -1.0]]), np.ones(1), 0.5, count=1200)
    before = evaluate(PERFECT, TEACHER, evaluation, seed=1)
    other_seed = evaluate(PERFECT, TEACHER, evaluation, seed=2, known=before)
    assert other_seed.teacher["sliced_w2"] != before.teacher["sliced_w2"]
    monkeypatch.setattr("pplemd.tasks.evaluation._of_teacher", lambda *args: pytest.fail("the teacher was asked"))
    again = evaluate(student([3.5, -1.0], 0.5), TEACHER, evaluation, seed=1, known=before)
    assert (again.teacher, again.floor) == (before.teacher, before.floor)
    assert again.student["sliced_w2"] > 3 * before.student["sliced_w2"]


def test_without_an_evaluation_the_teacher_is_the_reference(monkeypatch):
    monkeypatch.setattr(em.metrics.SampleEvaluation, "count", 1000)
    small = eqx.tree_at(lambda s: s.program.scale, PERFECT, jnp.asarray(0.5))
    report = evaluate(small, TEACHER, em.metrics.SampleEvaluation(lambda count, seed: _exact(count, seed), 1000))
    assert report.student["mean_error"] < 0.08
    assert set(report.floor) == {"sliced_w2", "mean_error", "std_error"}


def _exact(count, seed):
    return (np.array([3.0, -1.0]) + 0.5 * np.random.default_rng(seed).standard_normal((count, 2))).astype(np.float32)


def test_samples_that_are_not_finite_are_told():
    evaluation = em.metrics.MixtureEvaluation(np.array([[3.0, -1.0]]), np.ones(1), 0.5, count=50)
    with pytest.raises(DivergenceError, match="50 of 50 samples of the student are not finite"):
        evaluate(student([jnp.nan, 0.0], 0.5), TEACHER, evaluation)


def test_draw_gives_the_count_from_chunks_of_one_size():
    sizes = []

    def source(key, count, labels):
        sizes.append((count, None if labels is None else labels.shape))
        return jax.random.normal(key, (count, 2))

    drawn = timed_samples(source, jax.random.key(0), CHUNK + 7, em.Labels([1, 1]))
    assert drawn.x.shape == (CHUNK + 7, 2)
    assert set(sizes) == {(CHUNK, (CHUNK,))}
    assert len(np.unique(drawn.x[:, 0])) == CHUNK + 7  # no chunk twice
    assert drawn.seconds_per_1000 > 0


def test_samples_keep_the_class_that_they_were_asked_for():
    def source(key, count, labels):
        return labels.astype(jnp.float32)

    drawn = timed_samples(source, jax.random.key(0), CHUNK + 7, em.Labels([1, 2, 1]))
    np.testing.assert_array_equal(drawn.x, drawn.labels)
    assert len(drawn.labels) == CHUNK + 7
    assert set(drawn.labels) == {0, 1, 2}
    assert timed_samples(lambda key, count, labels: jnp.zeros((count, 2)), jax.random.key(0), 5, None).labels is None


def test_every_figure_is_of_the_seed_that_was_asked_for():
    class Spy(em.metrics.AbstractEvaluation):
        seeds: list
        count: int = 20

        def prepare(self):
            return Spied(self.seeds)

    seeds = []
    evaluate(PERFECT, TEACHER, Spy(seeds), seed=7)
    assert seeds == [7, 7, 7]  # of the floor, the teacher and the student


@pytest.mark.parametrize("count", [10, CHUNK + 11])
def test_pictures_show_every_class_in_turn(count):
    assert list(em.Labels.uniform(3).in_turn(7)) == [0, 1, 2, 0, 1, 2, 0]
    teacher = em.GaussianMixture(np.array([[0.0, 0.0], [9.0, 9.0]]), 0.1, labels=True)
    drawn = draw_teacher(teacher, em.Labels([1, 1]), seed=2, count=count)
    assert len(drawn.x) == len(drawn.labels) == count
    assert np.all(drawn.x[0::2] < 2)
    assert np.all(drawn.x[1::2] > 7)


@pytest.mark.parametrize(("loc", "share"), [([3.0, -1.0], 1.0), ([np.nan, 0.0], 0.0), ([np.inf, 0.0], 0.0)])
def test_a_glance_judges_what_can_be_judged(loc, share):
    measure = em.metrics.MixtureEvaluation(np.array([[3.0, -1.0]]), np.ones(1), 0.5, count=600).prepare()
    found = glance(student(loc, 0.5), measure, jax.random.key(2), 600)
    assert found["run_finite"] == share
    if share < 1:
        assert set(found) == {"run_finite"}
        return
    assert set(found) == {"run_finite", "run_modes", "run_sharp", "run_weight_kl", "run_sliced_w2"}
    assert found["run_modes"] == 1


def test_a_glance_that_cannot_be_measured_stops_nothing():
    assert glance(PERFECT, Refuses(), jax.random.key(2), 20) == {"run_finite": 1.0}


class Spied(em.metrics.AbstractMeasure):
    """Notes the seeds that it was asked by."""

    seeds: list

    def measure(self, x, seed=0, labels=None):
        self.seeds.append(seed)
        return {}

    def real(self, count, seed=0):
        return np.zeros((count, 2))

    def floor(self, seed=0, labelled=False):
        return self.measure(self.real(20, seed), seed)


class Refuses(em.metrics.AbstractMeasure):
    """Refuses its samples, as the Frechet distance does where they are too large to square."""

    def measure(self, x, seed=0, labels=None):
        raise DataError("found features too large to square")

    def real(self, count, seed=0):
        return np.zeros((count, 2))

    def floor(self, seed=0, labelled=False):
        return {}
