"""The mixture teacher against quadrature, automatic differentiation and its own draws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import TeacherError
from pplemd.teachers import GaussianMixture, sample

LINE = GaussianMixture([[-1.0], [2.0]], [0.4, 0.9], [3.0, 1.0], labels=True)  # skewed
PLANE = GaussianMixture([[-1.0, 0.0], [1.0, 1.5], [2.0, -1.0]], [0.4, 0.9, 0.6], [3.0, 1.0, 2.0], labels=True)
SIGMAS = [0.0, 0.3, 2.0]


@eqx.filter_jit
def log_densities(teacher, points, sigma, label):
    return jax.vmap(lambda x: teacher.log_density(x, sigma, label))(points)


def densities(teacher, points, sigma, label=None):
    label = None if label is None else jnp.asarray(label, jnp.int32)
    found = log_densities(teacher, jnp.asarray(points, jnp.float32), jnp.asarray(sigma), label)
    return np.exp(np.asarray(found, np.float64))


def grid(sigma):
    return np.linspace(-6 - 6 * sigma, 8 + 6 * sigma, 401)


@pytest.mark.parametrize("label", [None, 0, 1])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_density_integrates_to_one(sigma, label):
    axis = grid(sigma)
    width = axis[1] - axis[0]
    assert abs(densities(LINE, axis[:, None], sigma, label).sum() * width - 1) < 1e-4
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert abs(densities(PLANE, points, sigma, label).sum() * width**2 - 1) < 1e-4


@eqx.filter_jit
def gradient_and_score(points, sigma, label):
    gradient = jax.vmap(jax.grad(lambda x: PLANE.log_density(x, sigma, label)))(points)
    return gradient, jax.vmap(lambda x: PLANE.score(x, sigma, label))(points)


@pytest.mark.parametrize("label", [None, 0, 2])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_score_is_the_gradient_of_the_log_density(sigma, label):
    label = None if label is None else jnp.asarray(label, jnp.int32)
    points = 3 * jax.random.normal(jax.random.key(0), (50, 2))
    expected, found = gradient_and_score(points, jnp.asarray(sigma), label)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("label", [None, 0, 1])
@pytest.mark.parametrize("sigma", SIGMAS)
def test_noised_draws_have_the_moments_of_the_density(sigma, label):
    count = 20_000
    key_draw, key_eps = jax.random.split(jax.random.key(1))
    choice = None if label is None else jnp.asarray(label, jnp.int32)
    labels = None if choice is None else jnp.full(count, choice)
    x = sample(key_draw, LINE, count, labels)
    samples = np.asarray(x[:, 0] + sigma * jax.random.normal(key_eps, (count,)), np.float64)
    axis = grid(sigma)
    density = densities(LINE, axis[:, None], sigma, label) * (axis[1] - axis[0])
    for power in (1, 2, 3):
        values = samples**power
        expected = (axis**power * density).sum()
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(count), power


def test_a_label_picks_its_component():
    alone = GaussianMixture([[1.0, 1.5]], 0.9)
    x, sigma, label = jnp.array([0.3, -0.2]), jnp.asarray(0.7), jnp.asarray(1, jnp.int32)
    np.testing.assert_allclose(PLANE.score(x, sigma, label), alone.score(x, sigma), rtol=1e-5)
    np.testing.assert_allclose(PLANE.log_density(x, sigma, label), alone.log_density(x, sigma), rtol=1e-5)
    assert PLANE.classes == 3
    assert alone.classes is None


def test_shape_is_kept():
    means = np.random.default_rng(0).normal(size=(2, 4, 3, 1))
    images, flat = GaussianMixture(means, 0.5), GaussianMixture(means.reshape(2, 12), 0.5)
    x, sigma = jax.random.normal(jax.random.key(0), (4, 3, 1)), jnp.asarray(0.4)
    assert images.shape == images.draw(jax.random.key(1)).shape == (4, 3, 1)
    np.testing.assert_allclose(images.score(x, sigma).reshape(-1), flat.score(x.reshape(-1), sigma), rtol=1e-5)


@pytest.mark.parametrize(
    ("means", "std", "weights", "message"),
    [
        (np.zeros(3), 1.0, None, "means of shape"),
        (np.zeros((3, 1)), [1.0, 2.0], None, "std of shape"),
        (np.zeros((3, 1)), 1.0, [1.0, 2.0], "weights of shape"),
        (np.zeros((2, 1)), 0.0, None, "positive"),
        (np.zeros((2, 1)), np.nan, None, "positive"),
        (np.zeros((2, 1)), 1.0, [1.0, 0.0], "positive"),
    ],
)
def test_mistakes_are_named(means, std, weights, message):
    with pytest.raises(TeacherError, match=message):
        GaussianMixture(means, std, weights)


def test_a_label_for_a_mixture_without_classes_is_refused():
    plain, label, x = GaussianMixture([[0.0], [1.0]], 1.0), jnp.asarray(0, jnp.int32), jnp.zeros(1)
    for ask in (
        lambda: plain.score(x, jnp.asarray(1.0), label),
        lambda: plain.log_density(x, jnp.asarray(1.0), label),
        lambda: plain.draw(jax.random.key(0), label),
    ):
        with pytest.raises(TeacherError, match="labels=True"):
            ask()


def test_the_label_of_no_class_is_the_mixture_and_one_of_no_component_is_nothing():
    x, sigma = jnp.array([0.3, -0.2]), jnp.asarray(0.7)
    none, strange = jnp.asarray(-1, jnp.int32), jnp.asarray(3, jnp.int32)
    np.testing.assert_array_equal(PLANE.score(x, sigma, none), PLANE.score(x, sigma))
    np.testing.assert_array_equal(PLANE.log_density(x, sigma, none), PLANE.log_density(x, sigma))
    np.testing.assert_array_equal(PLANE.draw(jax.random.key(0), none), PLANE.draw(jax.random.key(0)))
    assert jnp.isnan(PLANE.log_density(x, sigma, strange))
    assert jnp.all(jnp.isnan(PLANE.score(x, sigma, strange)))
