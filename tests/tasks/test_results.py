"""Results of one step or of several: one way to draw from them."""

import jax
import jax.numpy as jnp
import numpy as np

import pplemd as em
from pplemd.tasks.base import DrawOptions

MEANS, SCALE = jnp.array([[-3.0, 1.0], [3.0, 1.0]]), 0.5


def denoise(x, sigma, label):
    """The exact denoiser of N(MEANS[label], SCALE^2 I)."""
    return MEANS[label] + (x - MEANS[label]) * SCALE**2 / (SCALE**2 + sigma**2)


def test_several_steps_draw_from_the_distribution_that_the_denoiser_knows():
    result = em.Diffused(em.teachers.DenoiserFunction(denoise, (2,), condition=2), em.Labels((0.25, 0.75)))
    assert result.shape == (2,)
    x = np.asarray(result.sample(jax.random.key(0), 4000))
    right = x[:, 0] > 0
    assert abs(right.mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 4000)  # conditions come from their prior
    np.testing.assert_allclose(x[right].mean(axis=0), MEANS[1], atol=0.04)
    np.testing.assert_allclose(x[right].std(axis=0), SCALE, atol=0.03)
    chosen = np.asarray(result.sample(jax.random.key(0), 20, jnp.zeros(20, jnp.int32)))
    assert (chosen[:, 0] < 0).all()
    assert em.Diffused(result.teacher, result.conditions, em.teachers.HeunSampler(2)).sample(
        jax.random.key(0), 3
    ).shape == (3, 2)


def test_a_taught_teacher_is_drawn_from_as_any_result(tmp_path):
    split = em.data.Split(
        np.random.default_rng(0).uniform(-1, 1, (8, 2)).astype(np.float32), np.arange(8, dtype=np.int32) % 2
    )
    taught = em.teach(
        lambda key: em.networks.ResidualMLP((2,), width=4, blocks=1, classes=2, key=key),
        em.data.Dataset(split, split, 2),
        training=em.Training(steps=2, batch=4),
    )
    plan = taught.plan()
    result = plan.result(plan.assemble().initial())
    assert result.sample(jax.random.key(1), 6).shape == (6, 2)
    target = tmp_path / "drawn.npz"
    plan.draw(result, 0, DrawOptions(target, count=5), em.Silent())
    with np.load(target) as drawn:
        np.testing.assert_array_equal(drawn["x"], result.sample(jax.random.key(0), 5, jnp.arange(5) % 2))
