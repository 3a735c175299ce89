"""Long chains of densities: the moments of a law that is known, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.dsl import trace
from pplemd.errors import DivergenceError, TeacherError
from pplemd.inference import reference_draws as reference
from pplemd.tasks.distillation import Distilled
from pplemd.tasks.evaluation import draw_teacher, evaluate


def model(y):
    rate = numpyro.sample("rate", dist.Gamma(3.0, 2.0))
    numpyro.sample("y", dist.Poisson(rate), obs=y)


TEACHER = em.posterior(model, np.array([4, 2, 5]))  # the posterior of the rate is Gamma(3 + 11, 2 + 3)


NORMAL = em.Density(lambda x: -0.5 * jnp.sum(x**2), (1,))


@pytest.mark.slow
def test_a_conjugate_posterior_has_its_moments():
    x = em.reference_draws(TEACHER, 8000, seed=1)
    assert x.shape == (8000, 1)
    rate = np.asarray(TEACHER.constrained(jnp.asarray(x))["rate"], float)
    mean, variance = 14 / 5, 14 / 25
    error = np.sqrt(variance / 2000)  # no fewer effective draws: NUTS in one dimension
    assert abs(rate.mean() - mean) < 4 * error
    assert abs(rate.std() / variance**0.5 - 1) < 4 / np.sqrt(2 * 2000)
    assert not np.array_equal(x, em.reference_draws(TEACHER, 8000, seed=2))  # of the same compilation


@pytest.mark.slow_for("1")
@pytest.mark.parametrize("count", [1, 8, 9])
def test_a_few_draws(count):
    x = em.reference_draws(NORMAL, count)
    assert x.shape == (count, 1)
    assert len(np.unique(x)) == count


class Line(em.Program):
    """x = loc + z."""

    loc: jax.Array

    def __call__(self):
        return em.generate("x", self.loc + em.latent("z", dist.Normal(jnp.zeros(1), 1.0)))


@pytest.mark.slow
def test_a_density_is_judged_by_chains(monkeypatch):
    monkeypatch.setattr(em.metrics.SampleEvaluation, "count", 2000)
    program = Line(jnp.ones(1))
    student = Distilled(trace(program, shape=(1,)), program, None)
    report = evaluate(student, NORMAL, None)
    assert report.teacher["mean_error"] < 0.15
    assert 0.85 < report.student["mean_error"] < 1.15
    assert report.teacher["seconds_per_1000"] > 0
    assert draw_teacher(NORMAL, None, count=2000).x.shape == (2000, 1)  # as many as above: compiled already


@pytest.mark.parametrize("seed", range(4))
def test_a_plain_law_is_not_refused_where_few_draws_are_asked_for(seed):
    x = em.reference_draws(NORMAL, 450, seed=seed)
    assert x.shape == (450, 1)
    assert abs(x.std() - 1) < 0.2


def signless(y):
    m = numpyro.sample("m", dist.Normal(0.0, 10.0))
    numpyro.sample("y", dist.Normal(m**2, 0.1), obs=y)


@pytest.mark.slow
def test_a_posterior_of_two_modes_is_refused_though_its_start_lies_at_one():
    teacher = em.posterior(signless, np.full(10, 9.0, np.float32))
    with pytest.raises(DivergenceError, match="R-hat is"):
        em.reference_draws(teacher, 800)


def test_other_teachers_are_refused():
    with pytest.raises(TeacherError, match="em.teachers.sample"):
        em.reference_draws(em.GaussianMixture([[0.0]], 1.0), 10)


@pytest.mark.slow
def test_chains_that_never_move_are_told(monkeypatch):
    monkeypatch.setattr(reference, "WARM_UP", 40)
    with pytest.raises(DivergenceError, match="proper distribution"):
        em.reference_draws(em.Density(lambda x: jnp.nan * jnp.sum(x), (2,)), 80)


def apart(x):
    """Two modes that no chain crosses."""
    return jnp.logaddexp(-0.5 * jnp.sum((x - 20.0) ** 2), -0.5 * jnp.sum((x + 20.0) ** 2))


def offset(x):
    """A normal law less a constant that 32 bits round to the nearest 32: nothing is decided by its density."""
    return -0.5 * jnp.sum(x**2) - 3e8


@pytest.mark.slow
@pytest.mark.parametrize(("log_q", "shape"), [(apart, (1,)), (offset, (2,))], ids=["modes", "constant"])
def test_a_reference_that_will_not_do_is_refused(log_q, shape):
    with pytest.raises(
        DivergenceError, match="not good enough to judge by: R-hat is .* worth [0-9]+ draws .at least 400"
    ):
        em.reference_draws(em.Density(log_q, shape), 800)


@pytest.mark.slow
@pytest.mark.parametrize("place", [3e3, 1e6])
def test_a_reference_may_lie_far_from_where_its_chains_start(place):
    x = em.reference_draws(em.Density(lambda x: -0.5 * jnp.sum((x - place) ** 2), (2,)), 1600)
    np.testing.assert_allclose(x.mean(axis=0, dtype=np.float64), place, rtol=0, atol=0.15)
    np.testing.assert_allclose(x.std(axis=0, dtype=np.float64), 1.0, atol=0.1)


def vague(y):
    level = numpyro.sample("level", dist.Normal(0.0, 1000.0))
    numpyro.sample("y", dist.Normal(level, 0.01), obs=y)


@pytest.mark.slow
def test_a_vague_prior_with_precise_data_has_its_moments():
    y = np.asarray(2000.0 + 0.01 * np.random.default_rng(0).standard_normal(4), np.float32)
    teacher = em.posterior(vague, y)
    level = np.asarray(teacher.constrained(jnp.asarray(em.reference_draws(teacher, 1600)))["level"], np.float64)
    assert abs(level.mean() - y.astype(np.float64).mean()) < 0.12 * 0.005
    assert abs(level.std() / 0.005 - 1) < 0.1
