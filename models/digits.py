"""Handwritten digits in one step."""

import jax.numpy as jnp
import numpyro.distributions as dist

import pplemd as em

data = em.data.digits()

teacher = em.teach(lambda key: em.networks.ResidualMLP(data.shape, width=384, blocks=4, key=key), data)


class Digits(em.Program):
    """x = g(z), z ~ N(0, I): the teacher's denoiser asked once, at one large sigma."""

    net: em.OneStep

    def __call__(self):
        z = em.latent("z", dist.Normal(jnp.zeros((8, 8, 1)), 1.0))
        return em.generate("x", self.net(z))


digits = em.Model(
    program=lambda teacher, key: Digits(em.one_step(teacher, sigma=2.5)),
    teacher=teacher,
    recipe=em.Recipe(),
    evaluation=em.metrics.ImageEvaluation(data),
)
