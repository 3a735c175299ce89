"""Eight schools: the posterior of a hierarchical model as a one-step sampler, in the model's own numbers.

Source: Rubin 1981; Gelman et al., Bayesian Data Analysis, section 5.5. Reference figures: posteriordb (BSD-3).
Command: pplemd distill models/eight_schools.py
Then: pplemd sample runs/eight_schools -n 20000 --format netcdf --correct
Expect: pilot chains leave theta non-centered, lambda 0, and take mu in units of its prior. The largest error over mu,
    tau and eight effects is .03 to .06 s.d. in the mean, .06 in the s.d. (three seeds), where the chains that judge
    differ among themselves by .04; Pareto k of --correct .5 (seed 0); about a minute on 2 idle cores, no GPU.
"""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import pplemd as em

effects = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
errors = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def eight_schools(sigma, y=None):
    """Effects of coaching that share a mean and a spread."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, sigma), obs=y)


posterior = em.posterior(eight_schools, errors, y=effects)
sigmas = em.CoarseToFine((0.1, 0.6), (0.02, 0.2))  # coordinates are of order 1


class Sampler(em.Program):
    """x = g(z), g one to one: its density is known, so that importance weights can correct it."""

    flow: em.networks.CouplingFlow

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros(self.flow.in_shape), 1.0))
        return em.generate("x", self.flow(z))


sampler = em.Model(
    program=lambda teacher, key: Sampler(em.networks.CouplingFlow(teacher.shape, scale=0.4, key=key)),
    teacher=posterior,
    networks={
        "score": lambda key: em.Denoiser(
            em.networks.TimedMLP(posterior.shape, width=128, blocks=2, key=key), sigma_data=0.5
        )
    },
    algorithm=em.EMD(
        sigmas=sigmas,
        chain=em.Chain(em.Langevin(em.Coordinates(noise=0.4**2, latents=0.004**2), truncation=5.0), length=1),
        move_latents=False,
        generator=em.Adam(learning_rate=3e-4, warmup=50, final=0.02),
        score=em.ScoreUpdates(em.Adam(learning_rate=2e-3, final=0.02), sigmas, count=6),
        average=0.995,
    ),
    training=em.Training(steps=2000, batch=256),
    evaluation=em.metrics.PosteriorEvaluation(
        lambda count, seed: em.reference_draws(posterior, count, seed),
        lambda x: {name: np.asarray(value) for name, value in posterior.constrained(jnp.asarray(x)).items()},
        count=10_000,
    ),
)
