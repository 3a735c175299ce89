"""Handwritten digits, 8 x 8, by class: teacher and generator are told which digit is wanted.

Source: as models/digits.py; the label enters teacher, score network and generator.
Command: pplemd distill models/digits_by_class.py, then pplemd sample runs/digits_by_class --label 7
Expect: not measured.
"""

import jax.numpy as jnp
import numpyro.distributions as dist

import pplemd as em

data = em.data.digits(test_fraction=0.2)


class DigitsByClass(em.Program):
    """x = g(z, label), z ~ N(0, I)."""

    net: em.OneStep

    def __call__(self, label):
        z = em.latent("z", dist.Normal(jnp.zeros(data.shape), 1.0))
        return em.generate("x", self.net(z, label))


digits_by_class = em.Model(
    program=lambda teacher, key: DigitsByClass(em.one_step(teacher, sigma=1.0)),
    teacher=em.teach(
        lambda key: em.networks.ResidualMLP(
            data.shape, width=384, blocks=4, classes=data.classes, dropout=0.4, key=key
        ),
        data,
    ),
    conditions=em.Labels([1.0] * 10),
    algorithm=em.EMD(move_latents=False),
    training=em.Training(steps=8000),
    evaluation=em.metrics.ImageEvaluation(data, k=5),
)
