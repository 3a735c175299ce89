"""Radon in Minnesota: 919 houses in 85 counties, a level for each county; the regression fitted by Monte Carlo EM.

Source: Gelman & Hill 2007, chapter 12. Data: a file of the format of posteriordb's radon_mn.json (BSD-3), whose path is
given to every command as a value of the run, which remembers it.
Command: pplemd fit models/radon.py --set given.data=radon_mn.json
Then: pplemd diagnose runs/radon; pplemd sample runs/radon -n 4000 --format netcdf
Expect: slopes .790 to .791 and -.637 to -.638, log error -.317 (seeds 0, 1, 2); log p(y) -1032.3 +- .1 of seed 0, and
    -1032.1 and -1031.6 of the others, estimates that say of themselves that they are not reliable; alpha near
    non-centered, lambda .16 to .18;
    142 s of processor time with its judgement, on 2 cores of an AMD EPYC (virtual), 24 GB. Diagnosed: least ESS per
    1,000 gradients 40, non-centered 23.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import pplemd as em

data = em.data.table(em.given("data", "the path of posteriordb's radon_mn.json, or of its .json.zip"))
counties = int(data["J"])
columns = {
    "county": data["county_idx"] - 1,
    "uppm": data["log_uppm"].astype(np.float32),
    "floor": data["floor_measure"].astype(np.float32),
    "y": data["log_radon"].astype(np.float32),
}


class Radon(em.Program):
    """y ~ N(alpha[county] + slopes . (uppm, floor), exp(log_error)), alpha ~ N(mean, spread): a hierarchy of latents.

    Slopes and error are fitted; the counties' levels, their mean and their spread are sampled.
    """

    slopes: jax.Array
    log_error: jax.Array

    def __call__(self, county, uppm, floor, y):
        mean = em.latent("mean", dist.Normal(0.0, 10.0))
        spread = em.latent("spread", dist.HalfNormal(1.0))
        with em.plate("counties", counties):
            alpha = em.latent("alpha", dist.Normal(mean, spread))  # centered="auto"
        level = alpha[county] + self.slopes[0] * uppm + self.slopes[1] * floor
        with em.plate("houses", len(y)):
            em.observe("y", dist.Normal(level, jnp.exp(self.log_error)), y)


radon = em.Fit(
    program=lambda key: Radon(jnp.zeros(2), jnp.zeros(())),
    data=columns,
    algorithm=em.MonteCarloEM(
        chains=16,
        chain=em.Chain(em.HMC(leapfrogs=4), length=2, cancel=em.Cancellation.NONE),
        optimiser=em.Adam(learning_rate=3e-2, clip=0.0, final=0.01),
    ),
    training=em.Training(steps=1500, log_every=25),
)
