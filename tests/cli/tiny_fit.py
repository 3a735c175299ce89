"""A level and six rows around it, whose scale is trained; each row of a second fit has a latent. For tests."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import pplemd as em

y = np.asarray(
    [float(number) for number in em.given("data", "six numbers, separated by commas").split(",")], np.float32
)
chain = em.Chain(em.HMC(leapfrogs=3), 1, em.Cancellation.NONE)
schedule = em.Reparameterization(every=5, rounds=30, policy=em.Policy(em.Fisher(steps=20)))
diagnostics = em.Diagnostics(em.HMC(leapfrogs=4), chains=2, warm_up=100, draws=800, rows=3, marginal=400)


class Levels(em.Program):
    """theta_j ~ N(mean, exp(log_spread)), y_j ~ N(theta_j, 0.3)."""

    mean: jax.Array
    log_spread: jax.Array

    def __call__(self):
        theta = em.latent("theta", dist.Normal(self.mean, jnp.exp(self.log_spread)).expand([6]))
        em.observe("y", dist.Normal(theta, 0.3), jnp.asarray(y))


class Rows(em.Program):
    """The same, each row by itself, whose latent is what the program generates."""

    mean: jax.Array

    def __call__(self):
        with em.plate("rows", 6) as rows:
            theta = em.latent("theta", dist.Normal(self.mean, 1.0), centered=True)
            em.observe("y", dist.Normal(theta, 0.3), jnp.asarray(y)[rows])
        return em.generate("x", theta[:, None])


levels = em.Fit(
    program=lambda key: Levels(jnp.zeros(()), jnp.zeros(())),
    algorithm=em.MonteCarloEM(chains=4, chain=chain, reparameterization=schedule),
    training=em.Training(steps=12, log_every=4, sample_every=6, checkpoint_every=4),
    diagnostics=diagnostics,
)
rows = em.Fit(
    program=lambda key: Rows(jnp.zeros(())),
    algorithm=em.MonteCarloEM(minibatches=True, chain=chain, reparameterization=schedule),
    training=em.Training(steps=4, batch=2, sample_every=4, log_every=25),
    diagnostics=diagnostics,
)
