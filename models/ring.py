"""A ring of eight modes in the plane, their weights unequal: an exact teacher, a random generator, no mode lost.

Source: the test problem of mode-covering samplers; weights 1:2:3:4:4:3:2:1, radius 4, standard deviation 0.15.
Command: pplemd distill models/ring.py
Expect: 8 of 8 modes, .98 within 4 s.d. of a mode, KL of mode weights .0004 (seeds 0, 1 and 3); some two minutes on
    2 cores, no GPU.
"""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import pplemd as em

angles = np.arange(8) * np.pi / 4
means = 4.0 * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
weights = np.array([1, 2, 3, 4, 4, 3, 2, 1]) / 20
std = 0.15

radius = float(np.sqrt(weights @ np.sum((means - weights @ means) ** 2, axis=-1)))
sigmas = em.CoarseToFine.spanning(radius, detail=std)


class Ring(em.Program):
    """x = g(z), z ~ N(0, I) in the plane, g a network that knows nothing at the start."""

    net: em.networks.MLP

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(2), 1.0))
        return em.generate("x", self.net(z))


ring = em.Model(
    program=lambda teacher, key: Ring(em.networks.MLP((2,), (2,), width=192, depth=4, key=key)),
    teacher=em.GaussianMixture(means, std, weights),
    networks={
        "score": lambda key: em.Denoiser(
            em.networks.TimedMLP((2,), width=128, blocks=3, key=key), sigma_data=radius / 2**0.5
        )
    },
    algorithm=em.EMD(
        sigmas=sigmas,
        chain=em.Chain(em.Langevin(em.Coordinates(noise=0.4**2, latents=0.004**2)), length=1),
        move_latents=False,
        anchor=em.Anchor(),
        generator=em.Adam(learning_rate=3e-3, final=0.05),
        score=em.ScoreUpdates(em.Adam(learning_rate=3e-3, final=0.05), sigmas, count=3),
        average=0.995,
    ),
    training=em.Training(steps=7000, batch=512),
    evaluation=em.metrics.MixtureEvaluation(means, weights, std),
)
