"""Handwritten digits, 8 x 8: a diffusion model is taught, then distilled into one step.

Source: EM distillation, arXiv:2405.16852, with the latents held and eps moved by K = 2 Langevin steps; tied to the
teacher's own map from noise to samples (arXiv:2311.18828, section 3.3), so that no part of the data is lost. Data:
scikit-learn's digits (1,797 images, UCI), a fifth of each class held out for the figures alone.
Command: pplemd distill models/digits.py
Expect: Frechet .78 (teacher .76), precision .94, recall .94, the means of 3 seeds; some minutes on 2 cores, no GPU.
"""

import jax.numpy as jnp
import numpyro.distributions as dist

import pplemd as em

data = em.data.digits(test_fraction=0.2)


class Digits(em.Program):
    """x = g(z), z ~ N(0, I): the teacher's denoiser, asked once at one large sigma, trained from there."""

    net: em.OneStep

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(data.shape), 1.0))
        return em.generate("x", self.net(z))


digits = em.Model(
    program=lambda teacher, key: Digits(em.one_step(teacher, sigma=1.0)),
    teacher=em.teach(lambda key: em.networks.ResidualMLP(data.shape, width=384, blocks=4, dropout=0.4, key=key), data),
    algorithm=em.EMD(
        chain=em.Chain(em.Langevin(em.Coordinates(noise=0.4**2, latents=0.004**2)), length=2),
        move_latents=False,
        anchor=em.Anchor(count=16384),
        generator=em.Adam(learning_rate=1.4e-3, final=0.02),
        score=em.ScoreUpdates(em.Adam(learning_rate=2.8e-3, final=0.02)),
        average=0.996,
    ),
    training=em.Training(steps=1500, batch=128),
    evaluation=em.metrics.ImageEvaluation(data, k=5),
)
