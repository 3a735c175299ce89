"""A teacher of a few numbers, taught on made-up images with labels: a model file for tests."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import pplemd as em

rng = np.random.default_rng(0)
label = rng.integers(0, 3, 60).astype(np.int32)
x = np.clip(0.1 * rng.standard_normal((60, 4, 4, 1)) + label[:, None, None, None] / 2 - 0.5, -1, 1).astype(np.float32)
data = em.data.Dataset(em.data.Split(x[:40], label[:40]), em.data.Split(x[40:], label[40:]), 3)


class Tiny(em.Program):
    """x = g(z, label)."""

    net: em.OneStep

    def __call__(self, label):
        z = em.latent("z", dist.Normal(jnp.zeros((4, 4, 1)), 1.0))
        return em.generate("x", self.net(z, label))


tiny = em.Model(
    program=lambda teacher, key: Tiny(em.one_step(teacher, sigma=1.0)),
    teacher=em.teach(
        lambda key: em.networks.ResidualMLP((4, 4, 1), width=8, blocks=1, classes=3, key=key),
        data,
        training=em.Training(steps=60, batch=8),
    ),
    algorithm=em.EMD(chain=em.Chain(em.Langevin(0.01), length=1)),
    training=em.Training(steps=6, batch=4, log_every=2),
    evaluation=em.metrics.SampleEvaluation(x.reshape(60, 16), count=40),
)
