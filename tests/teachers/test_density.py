"""Log densities and flows as teachers, and what stands for their noised scores."""

import builtins

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pplemd as em
from pplemd.errors import TeacherError
from pplemd.teachers import Quadratic, Unnoised, check, sample

WIDE = np.array([[2.0, 0.3], [0.3, 0.5]])
MIXTURE = em.GaussianMixture([[-1.0, 0.0], [1.0, 1.5], [2.0, -1.0]], [0.4, 0.9, 0.6], [3.0, 1.0, 2.0])  # skewed


def gaussian(x):
    return -0.5 * (x - 1) @ jnp.linalg.solve(jnp.asarray(WIDE, jnp.float32), x - 1)


def mixture(x):
    return MIXTURE.log_density(x, jnp.zeros(()))


@pytest.mark.slow_for("0.0")
@pytest.mark.parametrize("sigma", [0.0, 0.3, 2.0])
def test_a_gaussian_is_noised_exactly(sigma):
    teacher = em.Density(gaussian, (2,))
    check(teacher)
    x = jax.random.normal(jax.random.key(0), (30, 2))
    expected = np.linalg.solve(WIDE + sigma**2 * np.eye(2), (1 - np.asarray(x, np.float64)).T).T
    found = jax.vmap(lambda row: teacher.score(row, jnp.asarray(sigma)))(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    plain = em.Density(gaussian, (2,), Unnoised())
    np.testing.assert_allclose(plain.score(x[0], jnp.asarray(sigma)), jax.grad(gaussian)(x[0]), rtol=1e-6)


def error(noised, sigma):
    """Root mean square error of the stand-in over that of the score, at points of the noised mixture."""
    key_x, key_eps = jax.random.split(jax.random.key(1))
    x = sample(key_x, MIXTURE, 1000)
    points = x + sigma * jax.random.normal(key_eps, x.shape)
    teacher = em.Density(mixture, (2,), noised)
    found = jax.vmap(lambda p: teacher.score(p, jnp.asarray(sigma)))(points)
    exact = jax.vmap(lambda p: MIXTURE.score(p, jnp.asarray(sigma)))(points)
    return float(jnp.sqrt(jnp.mean((found - exact) ** 2) / jnp.mean(exact**2)))


@pytest.mark.slow
@pytest.mark.slow_for("0.1")
@pytest.mark.parametrize("sigma", [0.1, 0.4])
def test_the_quadratic_stand_in_is_nearer_the_mixture_s_score(sigma):
    plain, once, twice = (error(noised, sigma) for noised in (Unnoised(), Quadratic(1), Quadratic(2)))
    assert once < 0.6 * plain
    assert twice < 0.9 * once


def test_its_error_vanishes_as_sigma_squared():
    small, large = error(Quadratic(), 0.05), error(Quadratic(), 0.1)
    assert small < 0.008
    assert 3 < large / small < 5


def test_far_out_in_a_funnel_it_points_back_and_stays_bounded():
    def funnel(x):
        return -0.5 * x[0] ** 2 - 0.5 * x[1] ** 2 * jnp.exp(2 * x[0])

    x, sigma = jnp.array([5.0, 2.0]), jnp.asarray(0.5)
    plain, found = (em.Density(funnel, (2,), rule).score(x, sigma) for rule in (Unnoised(), Quadratic()))
    assert plain[0] < -8e4
    assert -100 < found[0] < 0
    assert -100 < found[1] < 0


def test_a_density_of_images_keeps_their_shape():
    teacher = em.Density(lambda x: -0.5 * jnp.sum(x**2), (2, 3, 1))
    check(teacher)
    x = jax.random.normal(jax.random.key(2), (2, 3, 1))
    np.testing.assert_allclose(teacher.score(x, jnp.asarray(1.0)), -x / 2, rtol=1e-5)


@pytest.mark.parametrize("function", [lambda x: -(x**2), lambda x: jnp.asarray(0, jnp.int32), lambda x: 0.0])
def test_a_log_density_that_is_not_one_number_is_refused(function):
    with pytest.raises(TeacherError, match="expected one number"):
        em.Density(function, (2,))


def test_a_density_does_not_draw():
    with pytest.raises(TeacherError, match="long chains"):
        sample(jax.random.key(0), em.Density(gaussian, (2,)), 10)


@pytest.mark.slow
def test_a_flow_draws_and_scores_as_itself():
    distributions = pytest.importorskip("flowjax.distributions")
    bijections = pytest.importorskip("flowjax.bijections")
    loc, scale = jnp.array([1.0, -2.0]), jnp.array([0.5, 2.0])
    flow = distributions.Transformed(distributions.StandardNormal((2,)), bijections.Affine(loc, scale))
    teacher = em.Flow(flow)
    check(teacher)
    x, sigma = jnp.array([0.3, 0.7]), 0.6
    np.testing.assert_allclose(teacher.score(x, jnp.asarray(sigma)), (loc - x) / (scale**2 + sigma**2), rtol=1e-4)
    expected = jnp.sum(jax.scipy.stats.norm.logpdf(x, loc, scale))
    np.testing.assert_allclose(teacher.log_q(x), expected, rtol=1e-5)
    draws = np.asarray(sample(jax.random.key(3), teacher, 4000))
    assert np.all(np.abs(draws.mean(0) - loc) < 4 * scale / 4000**0.5)
    assert np.all(np.abs(draws.std(0) / scale - 1) < 4 / 8000**0.5)


@pytest.mark.slow
def test_a_trained_kind_of_flow_is_taken():
    flows = pytest.importorskip("flowjax.flows")
    distributions = pytest.importorskip("flowjax.distributions")
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        flow = flows.masked_autoregressive_flow(
            jax.random.key(0), base_dist=distributions.StandardNormal((3,)), flow_layers=2, nn_width=8
        )
    teacher = em.Flow(flow, Unnoised())
    check(teacher)
    x = jnp.array([0.1, 0.2, -0.5])
    np.testing.assert_allclose(teacher.score(x, jnp.asarray(0.1)), jax.grad(teacher.log_q)(x), rtol=1e-5)


@pytest.mark.slow
def test_what_is_no_flow_is_refused():
    distributions = pytest.importorskip("flowjax.distributions")
    flows = pytest.importorskip("flowjax.flows")
    with pytest.raises(TeacherError, match="em.Density"):
        em.Flow(MIXTURE)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        conditional = flows.masked_autoregressive_flow(
            jax.random.key(0), base_dist=distributions.StandardNormal((3,)), cond_dim=2, flow_layers=1, nn_width=8
        )
    with pytest.raises(TeacherError, match="conditional"):
        em.Flow(conditional)


def test_without_flowjax_the_error_says_how_to_install_it(monkeypatch):
    found = builtins.__import__

    def without(name, *args):
        if name.startswith("flowjax"):
            raise ImportError("No module named 'flowjax'")
        return found(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TeacherError, match=r"pip install 'pplemd\[flows\]'"):
        em.Flow(MIXTURE)
