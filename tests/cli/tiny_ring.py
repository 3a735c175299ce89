"""Four modes in the plane, networks of a few numbers: a model file for tests."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import pplemd as em

angles = np.arange(4) * np.pi / 2
means = 2.0 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
sigmas = em.LogUniform(0.1, 3.0)


class Tiny(em.Program):
    """x = g(z)."""

    net: em.networks.MLP

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(2), 1.0))
        return em.generate("x", self.net(z))


tiny = em.Model(
    program=lambda teacher, key: Tiny(em.networks.MLP((2,), (2,), width=8, depth=1, key=key)),
    teacher=em.GaussianMixture(means, 0.2),
    networks={
        "score": lambda key: em.Denoiser(em.networks.ResidualMLP((2,), width=8, blocks=1, key=key), sigma_data=1.4)
    },
    algorithm=em.EMD(
        sigmas=sigmas,
        chain=em.Chain(em.Langevin(em.Coordinates(noise=0.16, latents=0.01)), length=1),
        score=em.ScoreUpdates(sigmas=sigmas, count=1),
    ),
    training=em.Training(steps=30, batch=16, log_every=7, checkpoint_every=10, sample_every=10_000),
    evaluation=em.metrics.MixtureEvaluation(means, np.full(4, 0.25), 0.2, count=500),
)
