"""Draws of teachers: exact ones their own, others by the reverse diffusion."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.errors import TeacherError
from pplemd.teachers import DenoiserFunction, GaussianMixture, HeunSampler, denoise, sample

MIXTURE = GaussianMixture([[-1.0], [2.0]], [0.4, 0.9], [3.0, 1.0], labels=True)
MEAN = -0.25  # (3 (-1) + 2) / 4
MOMENTS = {  # centred, of the mixture: offsets -0.75 and 2.25 with s.d. 0.4 and 0.9
    2: 0.75 * (0.75**2 + 0.16) + 0.25 * (2.25**2 + 0.81),
    3: 0.75 * (-(0.75**3) - 3 * 0.75 * 0.16) + 0.25 * (2.25**3 + 3 * 2.25 * 0.81),
}
COUNT = 4000


class Tweedie(eqx.Module):
    """The mixture's denoiser, as a function."""

    def __call__(self, x, sigma, label=None):
        return denoise(MIXTURE, x, sigma, label)


BLIND = DenoiserFunction(Tweedie(), (1,), 2)  # the same law, which it cannot draw itself


@pytest.mark.parametrize("teacher", [MIXTURE, BLIND], ids=["exact", "heun"])
def test_draws_have_the_moments_of_the_law(teacher):
    x = np.asarray(sample(jax.random.key(0), teacher, COUNT), np.float64)
    assert x.shape == (COUNT, 1)
    assert abs(x.mean() - MEAN) < 4 * x.std() / np.sqrt(COUNT)
    for power, expected in MOMENTS.items():
        values = (x - MEAN) ** power
        assert abs(values.mean() - expected) < 4 * values.std() / np.sqrt(COUNT), power


@pytest.mark.parametrize("teacher", [MIXTURE, BLIND], ids=["exact", "heun"])
def test_draws_follow_their_labels(teacher):
    labels = jnp.arange(COUNT, dtype=jnp.int32) % 2
    x = np.asarray(sample(jax.random.key(1), teacher, COUNT, labels), np.float64)[:, 0]
    for label, (mean, std) in enumerate([(-1.0, 0.4), (2.0, 0.9)]):
        own = x[label::2]
        assert abs(own.mean() - mean) < 4 * std / np.sqrt(len(own))
        assert abs(own.std() / std - 1) < 4 / np.sqrt(2 * len(own))


def test_exact_teachers_draw_themselves():
    x = sample(jax.random.key(2), MIXTURE, 3)
    own = [MIXTURE.draw(key) for key in jax.random.split(jax.random.key(2), 3)]
    np.testing.assert_allclose(x, jnp.stack(own), rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 4])
def test_evaluations_are_counted(steps):
    calls = []

    def counting(x, sigma):
        calls.append(sigma)
        return x / (1 + sigma**2)

    with jax.disable_jit():
        HeunSampler(steps)(jax.random.key(0), DenoiserFunction(counting, (1,)))
    assert len(calls) == HeunSampler(steps).evaluations


def test_labels_that_do_not_fit_are_refused():
    with pytest.raises(TeacherError, match=r"shapes \[\(2,\)\]; expected shapes \[\(3,\)\]"):
        sample(jax.random.key(0), MIXTURE, 3, jnp.zeros(2, jnp.int32))
    with pytest.raises(TeacherError, match="expected conditions=None"):
        sample(jax.random.key(0), GaussianMixture([[0.0]], 1.0), 3, jnp.zeros(3, jnp.int32))
