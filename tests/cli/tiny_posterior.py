"""A posterior of two latents, a flow of a few numbers: a model file for tests."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import pplemd as em


def heights(y):
    """A mean and a spread of a few heights; the spread is positive."""
    mean = numpyro.sample("mean", dist.Normal(0, 1))
    spread = numpyro.sample("spread", dist.LogNormal(0, 0.5))
    numpyro.deterministic("band", mean + jnp.array([-2.0, 2.0]) * spread)
    numpyro.sample("y", dist.Normal(mean, spread), obs=y)


posterior = em.posterior(heights, np.array([0.3, -0.4, 1.1]))
sigmas = em.LogUniform(0.05, 0.5)


class Sampler(em.Program):
    """x = g(z), g one to one."""

    flow: em.networks.CouplingFlow

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(2), 1.0))
        return em.generate("x", self.flow(z))


sampler = em.Model(
    program=lambda teacher, key: Sampler(
        em.networks.CouplingFlow((2,), layers=2, width=8, depth=1, scale=0.6, key=key)
    ),
    teacher=posterior,
    networks={"score": lambda key: em.Denoiser(em.networks.TimedMLP((2,), width=8, blocks=1, key=key), sigma_data=0.6)},
    algorithm=em.EMD(
        sigmas=sigmas,
        chain=em.Chain(em.Langevin(em.Coordinates(noise=0.16, latents=0.01)), length=1),
        move_latents=False,
        score=em.ScoreUpdates(sigmas=sigmas, count=1),
    ),
    training=em.Training(steps=20, batch=16, sample_every=10_000),
    evaluation=em.metrics.PosteriorEvaluation(
        lambda count, seed: em.reference_draws(posterior, count, seed),
        lambda x: {name: np.asarray(value) for name, value in posterior.constrained(jnp.asarray(x)).items()},
        count=400,
    ),
)
