"""A codec that changes samples: chains and networks live in its space, samples, pictures and figures in the data's."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.data import Dataset, Split
from pplemd.errors import DataError
from pplemd.teachers import LatentDiffusion, codec_of, trainable

MIX = np.array([[1.0, 0.5, 0.25], [-0.5, 0.5, 0.5]], np.float32)  # of three numbers, two


class Plane(em.codecs.AbstractCodec):
    """Points of a plane in three dimensions, by two coordinates: x = u M."""

    mix: np.ndarray

    def encode(self, x):
        return x @ jnp.linalg.pinv(self.mix)

    def decode(self, encoded):
        return encoded @ self.mix


class Student(em.Program):
    net: em.OneStep

    def __call__(self):
        return em.generate("x", self.net(em.latent("z", dist.Normal(jnp.zeros(2), 1.0))))


def points(count, seed):
    u = np.array([0.2, -0.1]) + 0.1 * np.random.default_rng(seed).standard_normal((count, 2))
    return Split((u @ MIX).astype(np.float32), None)


def taught(size=2):
    data = Dataset(points(2000, 0), points(500, 1), classes=None)
    network = lambda key: em.networks.TimedMLP((size,), 32, 2, key=key)  # noqa: E731
    return em.teach(network, data, training=em.Training(steps=600, batch=128), codec=Plane(MIX))


def model(**numbers):
    evaluation = em.metrics.SampleEvaluation(lambda count, seed: points(count, seed + 7).x, 500)
    training = em.Training(**{"steps": 200, "batch": 64, **numbers})
    build = lambda teacher, key: Student(em.one_step(teacher, 0.5))  # noqa: E731
    return em.Model(build, taught(), training=training, evaluation=evaluation)


@pytest.mark.slow
def test_samples_are_decoded_and_networks_live_in_the_codec_s_space(tmp_path):
    outcome = em.distil(model(), tmp_path / "run", reporter=em.Silent())
    x = np.asarray(outcome.result.sample(jax.random.key(0), 400))
    assert outcome.result.shape == x.shape[1:] == (3,)
    assert outcome.result.problem.output.shape == (2,)
    np.testing.assert_allclose(x @ np.linalg.pinv(MIX) @ MIX, x, atol=1e-5)  # on the plane
    np.testing.assert_allclose(x.mean(axis=0), np.array([0.2, -0.1]) @ MIX, atol=0.06)
    report = outcome.report.figures()
    assert report["student"]["sliced_w2"] < 0.05 > report["teacher"]["sliced_w2"]
    assert outcome.result.program.net.denoiser.shape == (2,)


def test_a_copy_of_the_teacher_is_without_its_codec():
    inner = em.Denoiser(em.networks.TimedMLP((2,), 8, 1, key=jax.random.key(0)), 0.5)
    teacher = LatentDiffusion(em.Guided(inner, em.Guidance(2.0)) if inner.condition else inner, Plane(MIX))
    assert trainable(teacher) is inner
    assert codec_of(teacher) is teacher.codec
    assert isinstance(codec_of(inner), em.codecs.Identity)
    assert teacher.codec.decoded_shape((2,)) == (3,)
    assert teacher.codec.encoded_shape((3,)) == (2,)


def test_a_network_of_another_space_is_refused():
    with pytest.raises(DataError, match=r"takes x of shape \(3,\); the data has \(2,\)"):
        eqx.filter_eval_shape(taught(3).build)
