"""Denoising score matching: how a teacher and the student's score network learn."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from pplemd.diffusion import AbstractSigmas, AbstractWeighting, EDMWeight, InverseVarianceWeight, Prediction, StepVP
from pplemd.teachers import AbstractDenoiser, Denoiser, Guided, LastIsNone, Preconditioned

SIGMA_DATA = 0.5  # s.d. of images in [-1, 1], as EDM takes it: for denoisers that know none of their own


class Noise(eqx.Module):
    """Noise for a batch of samples.

    Attributes:
        sigma: a noise level for each, in data units.
        eps: standard normal, of the samples' shape.
    """

    sigma: Float[Array, " batch"]
    eps: Float[Array, "batch ..."]


def drawn_noise(
    key: PRNGKeyArray, shape: tuple[int, ...], sigmas: AbstractSigmas, progress: Float[Array, ""]
) -> tuple[Noise, PRNGKeyArray]:
    """Noise at levels drawn from their distribution, and a key for dropout.

    Args:
        key: a key.
        shape: of the samples, the batch first.
        sigmas: distribution of noise levels.
        progress: of the training, 0 to 1.
    """
    key_sigma, key_noise = jax.random.split(key)
    key_eps, key_dropout = jax.random.split(key_noise)
    sigma = sigmas.sample(key_sigma, shape[:1], progress)
    return Noise(sigma, jax.random.normal(key_eps, shape)), key_dropout


def matching_loss(
    denoiser: AbstractDenoiser,
    x: Float[Array, "batch ..."],
    noise: Noise,
    labels: Int[Array, " batch"] | None,
    weighting: AbstractWeighting,
    keys: Key[Array, " batch"] | None = None,
) -> Float[Array, ""]:
    """Mean over a batch of w(sigma) |D(x + sigma eps, sigma) - x|^2 / dim(x), for given noise.

    Args:
        denoiser: D.
        x: clean samples, in data units.
        noise: sigma and eps.
        labels: one class for each, or None.
        weighting: w.
        keys: one for each, for the denoiser's dropout; None for no dropout.

    Source: arXiv:2206.00364, equation 2 and table 1.
    """
    noised = x + jax.vmap(jnp.multiply)(noise.sigma, noise.eps)
    error = jax.vmap(denoiser.denoise)(noised, noise.sigma, labels, keys) - x
    return jnp.mean(jax.vmap(weighting)(noise.sigma) * jax.vmap(lambda e: jnp.mean(e**2))(error))


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
    keys = jax.random.split(key_dropout, x.shape[0]) if dropout else None
    noise = Noise(sigma, jax.random.normal(key_noise, x.shape))
    return matching_loss(denoiser, x, noise, labels, weighting, keys)


def default_weight(denoiser: AbstractDenoiser) -> AbstractWeighting:
    """The loss weight that makes a denoiser's error count about alike at all noise levels.

    EDM's, 1 / sigma^2 + 1 / sigma_data^2, where preconditioning makes the error fall with sigma; else, as for a network
    that predicts x itself, 1 / (sigma^2 + sigma_data^2). sigma_data is the denoiser's own, or 0.5 where it has none.
    """
    if isinstance(denoiser, LastIsNone | Guided):
        return default_weight(denoiser.denoiser)
    if isinstance(denoiser, Denoiser):
        return EDMWeight(denoiser.sigma_data)
    if not isinstance(denoiser, Preconditioned):
        return InverseVarianceWeight(SIGMA_DATA)
    told = denoiser.coefficients
    clean = isinstance(told, StepVP) and told.prediction is Prediction.CLEAN
    return InverseVarianceWeight(SIGMA_DATA) if clean else EDMWeight(SIGMA_DATA)
