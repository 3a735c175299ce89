"""Weights against closed forms: a sampler of known density, a target of known moments."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.dsl import trace
from pplemd.errors import DataError, TeacherError
from pplemd.tasks.importance import Weighted, importance, log_density
from pplemd.tasks.results import Distilled

MEAN, COVARIANCE = np.array([1.0, -0.5]), np.array([[1.0, 0.4], [0.4, 0.5]])


def target(x):
    difference = x - jnp.asarray(MEAN, jnp.float32)
    return 3.0 - 0.5 * difference @ jnp.linalg.solve(jnp.asarray(COVARIANCE, jnp.float32), difference)


TARGET = em.Density(target, (2,))


class Bent(em.Program):
    """x = (a, scale b + bend a^2), one to one; its log-determinant is 2 log scale."""

    scale: jax.Array
    bend: jax.Array

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.array([0.5, 0.0]), 1.2))
        return em.generate("x", jnp.stack([self.scale * z[0], self.scale * z[1] + self.bend * z[0] ** 2]))


class Affine(em.Program):
    """x = scale z."""

    scale: jax.Array

    def __call__(self):
        return em.generate("x", self.scale * em.latent("z", dist.Normal(jnp.zeros(2), 1.0)))


class Folded(em.Program):
    """x = z^2: two z for each x."""

    scale: jax.Array

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(2), 1.0))
        return em.generate("x", self.scale * jnp.stack([z[0] ** 2, z[1]]))


class Narrow(em.Program):
    """Three numbers of one."""

    scale: jax.Array

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(1), 1.0))
        return em.generate("x", self.scale * jnp.concatenate([z, z]))


def student(program):
    return Distilled(trace(program, shape=(2,)), program, None)


def bent(scale, bend=0.2):
    return student(Bent(jnp.asarray(scale), jnp.asarray(bend)))


@pytest.mark.slow
def test_log_ratios_are_those_of_the_two_densities():
    found = importance(bent(1.1), TARGET, 500, seed=1)
    a = found.x[:, 0].astype(float) / 1.1
    b = (found.x[:, 1] - 0.2 * a**2) / 1.1
    log_p = -0.5 * ((a - 0.5) ** 2 + b**2) / 1.44 - np.log(2 * np.pi * 1.44) - 2 * np.log(1.1)
    expected = np.array([target(x) for x in jnp.asarray(found.x)]) - log_p
    np.testing.assert_allclose(found.log_ratios, expected, rtol=1e-4, atol=1e-4)


def test_weights_correct_the_moments():
    found = importance(bent(1.1), TARGET, 20_000, seed=2)
    assert found.k_hat < 0.7
    assert "can be relied on" in found.word
    weights = np.exp(found.log_weights)
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-6)
    plain = np.abs(found.x.mean(axis=0) - MEAN)
    error = np.sqrt(np.diag(COVARIANCE) / found.effective)
    assert np.any(plain > 10 * error)
    assert np.all(np.abs(weights @ found.x - MEAN) < 4 * error)
    again = found.resample(20_000, seed=3)
    assert np.all(np.abs(again.mean(axis=0) - MEAN) < 5 * error)
    assert np.all(np.abs(np.cov(again.T) - COVARIANCE) < 0.06)


def test_a_perfect_sampler_is_told_as_one():
    """Ratios that differ by rounding alone have no tail to fit."""
    exact = em.Density(lambda x: -0.5 * jnp.sum((x / 1.7) ** 2), (2,))
    program = Affine(jnp.asarray(1.7))
    found = importance(student(program), exact, 2000)
    assert found.k_hat == 0
    assert found.effective == pytest.approx(2000, rel=1e-3)
    assert "can be relied on" in found.word
    with pytest.raises(DataError, match="count of 0"):
        importance(student(program), exact, 0)
    nowhere = em.Density(lambda x: jnp.where(x[0] > 1e6, 0.0, -jnp.inf), (2,))
    with pytest.raises(DataError, match="0 of them finite"):
        importance(student(program), nowhere, 100)
    unknown = Weighted(found.x, found.log_ratios, found.log_weights, float("nan"))
    assert "Draw more" in unknown.word


def test_the_count_is_kept_over_chunks(monkeypatch):
    monkeypatch.setattr("pplemd.tasks.importance.CHUNK", 40)
    found = importance(bent(1.1), TARGET, 100)
    assert found.x.shape == (100, 2)
    assert len(np.unique(found.x[:, 0])) == 100


def test_a_sampler_that_is_too_narrow_is_told():
    found = importance(bent(0.35, 0.0), TARGET, 4000)
    assert found.k_hat > 0.7
    assert "do not rely on the correction" in found.word


def test_resampling_takes_each_draw_in_proportion_to_its_weight():
    weights = np.array([0.5, 0.25, 0.125, 0.125])
    given = Weighted(np.arange(4, dtype=np.float32)[:, None], np.log(weights), np.log(weights), 0.1)
    counts = np.bincount(given.resample(8000)[:, 0].astype(int), minlength=4)
    np.testing.assert_allclose(counts / 8000, weights, atol=2 / 8000)  # stratified: off by two places at most
    np.testing.assert_allclose(given.effective, 1 / np.sum(weights**2))


@pytest.mark.parametrize(
    ("sampler", "teacher", "message"),
    [
        (student(Folded(jnp.asarray(1.0))), TARGET, "one to one"),
        (student(Narrow(jnp.asarray(1.0))), TARGET, "makes 2 numbers of 1"),
        (bent(1.0), em.teachers.ScoreFunction(lambda x, sigma: -x, (2,)), "knows its score alone"),
    ],
)
def test_mistakes_are_named(sampler, teacher, message):
    with pytest.raises(TeacherError, match=message):
        importance(sampler, teacher, 200)


def test_a_mixture_s_density_is_that_without_noise():
    mixture = em.GaussianMixture([[0.0, 0.0]], 0.5)
    np.testing.assert_allclose(log_density(mixture, jnp.zeros(2)), -np.log(2 * np.pi * 0.25), rtol=1e-6)
