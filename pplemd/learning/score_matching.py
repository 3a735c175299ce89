"""Denoising score matching: how a teacher and the student's score network learn."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.diffusion import AbstractSigmas, AbstractWeighting, EDMWeight, InverseVarianceWeight
from pplemd.teachers import AbstractDenoiser, Denoiser, Preconditioned

SIGMA_DATA = 0.5  # s.d. of images in [-1, 1], as EDM takes it: for denoisers that know none of their own


def denoising_loss(
    denoiser: AbstractDenoiser,
    key: PRNGKeyArray,
    x: Float[Array, "batch ..."],
    sigma: Float[Array, " batch"],
    labels: Int[Array, " batch"] | None,
    weighting: AbstractWeighting,
    dropout: bool = False,
) -> Float[Array, ""]:
    """Mean over a batch of w(sigma) |D(x + sigma eps, sigma) - x|^2 / dim(x).

    Its minimiser is the posterior mean of x, so (D - x_sigma) / sigma^2 is the score of the noised law of x.

    Args:
        denoiser: D.
        key: a key for eps and for the denoiser's dropout.
        x: clean samples, in data units.
        sigma: one noise level for each.
        labels: one class for each, or None.
        weighting: w.
        dropout: whether D drops features: for few data, not for the student's endless samples.

    Source: arXiv:2206.00364, equation 2 and table 1.
    """
    key_noise, key_dropout = jax.random.split(key)
    noised = x + jax.vmap(jnp.multiply)(sigma, jax.random.normal(key_noise, x.shape))
    keys = jax.random.split(key_dropout, x.shape[0]) if dropout else None
    error = jax.vmap(denoiser.denoise)(noised, sigma, labels, keys) - x
    return jnp.mean(jax.vmap(weighting)(sigma) * jax.vmap(lambda e: jnp.mean(e**2))(error))


def noised_loss(
    denoiser: AbstractDenoiser,
    key: PRNGKeyArray,
    x: Float[Array, "batch ..."],
    labels: Int[Array, " batch"] | None,
    noise: tuple[AbstractSigmas, AbstractWeighting | None],
    progress: Float[Array, ""],
    dropout: bool = False,
) -> Float[Array, ""]:
    """The denoising loss at noise levels drawn from their distribution, by default under `default_weight`."""
    key_sigma, key_noise = jax.random.split(key)
    sigmas, weighting = noise
    sigma = sigmas.sample(key_sigma, (x.shape[0],), progress)
    return denoising_loss(denoiser, key_noise, x, sigma, labels, weighting or default_weight(denoiser), dropout)


def default_weight(denoiser: AbstractDenoiser) -> AbstractWeighting:
    """The loss weight that makes a denoiser's error count about alike at all noise levels.

    EDM's, 1 / sigma^2 + 1 / sigma_data^2, where preconditioning makes the error fall with sigma; else, as for a network
    that predicts x itself, 1 / (sigma^2 + sigma_data^2). sigma_data is the denoiser's own, or 0.5 where it has none.
    """
    if isinstance(denoiser, Denoiser):
        return EDMWeight(denoiser.sigma_data)
    if isinstance(denoiser, Preconditioned):
        return EDMWeight(SIGMA_DATA)
    return InverseVarianceWeight(SIGMA_DATA)
