"""Problems small enough for closed forms, and denoisers that are exact."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

import pplemd as em
from pplemd.conditions import AbstractCondition, Classes
from pplemd.teachers import AbstractDenoiser, OneStep


class Linear(em.Program):
    """x = a z."""

    a: jax.Array

    def __call__(self):
        return em.generate("x", self.a * em.latent("z", dist.Normal(jnp.zeros(1), 1.0)))


class Normal(AbstractDenoiser):
    """The exact denoiser of N(0, std^2) in one dimension."""

    std: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True, default=(1,))
    condition: AbstractCondition | None = eqx.field(static=True, default=None)

    def denoise(self, x_sigma, sigma, label=None, key=None):
        return self.std**2 / (self.std**2 + sigma**2) * x_sigma

    def score(self, x_sigma, sigma, label=None):
        return -x_sigma / (self.std**2 + sigma**2)


class Centres(AbstractDenoiser):
    """The exact denoiser of N(m_label, e^(2 log_std) I) in the plane, its centres and spread trained."""

    centres: jax.Array
    log_std: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True, default=(2,))
    condition: AbstractCondition | None = eqx.field(static=True, default=Classes(3))

    def denoise(self, x_sigma, sigma, label=None, key=None):
        variance = jnp.exp(2 * self.log_std)
        centre = self.centres[0 if label is None else label]
        return (variance * x_sigma + sigma**2 * centre) / (variance + sigma**2)

    def score(self, x_sigma, sigma, label=None):
        return (self.denoise(x_sigma, sigma, label) - x_sigma) / sigma**2


class Copy(em.Program):
    """A denoiser asked once, with a label."""

    net: OneStep

    def __call__(self, label):
        return em.generate("x", self.net(em.latent("z", dist.Normal(jnp.zeros(2), 1.0)), label))


class Power(AbstractDenoiser):
    """f(x, sigma) = x (1 + sigma^2)^-exponent: the ODE's map of N(0, 1) at 1/2, its denoiser at 1."""

    exponent: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True, default=(1,))
    condition: AbstractCondition | None = eqx.field(static=True, default=None)

    def denoise(self, x_sigma, sigma, label=None, key=None):
        return x_sigma * (1 + sigma**2) ** -self.exponent

    def score(self, x_sigma, sigma, label=None):
        return (self.denoise(x_sigma, sigma) - x_sigma) / sigma**2


class Once(em.Program):
    """A denoiser asked once."""

    net: OneStep

    def __call__(self):
        return em.generate("x", self.net(em.latent("z", dist.Normal(jnp.zeros(1), 1.0))))
