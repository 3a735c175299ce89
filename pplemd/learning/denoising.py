"""Denoising score matching: how a teacher and the student's score network learn."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PRNGKeyArray

from pplemd.conditions import Condition
from pplemd.diffusion import AbstractConvention, AbstractSigmas, AbstractWeighting, EDMWeight, InverseVarianceWeight
from pplemd.teachers import AbstractDenoiser, Denoiser, convention

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
    conditions: Condition,
    weighting: AbstractWeighting,
    keys: Key[Array, " batch"] | None = None,
) -> Float[Array, ""]:
    """Mean over a batch of w(sigma) |D(x + sigma eps, sigma) - x|^2 / dim(x), for given noise.

    Args:
        denoiser: D.
        x: clean samples, in data units.
        noise: sigma and eps.
        conditions: one class for each, or None.
        weighting: w.
        keys: one for each, for the denoiser's dropout; None for no dropout.

    Source: arXiv:2206.00364, equation 2 and table 1.
    """
    noised = x + jax.vmap(jnp.multiply)(noise.sigma, noise.eps)
    error = jax.vmap(denoiser.denoise)(noised, noise.sigma, conditions, keys) - x
    return jnp.mean(jax.vmap(weighting)(noise.sigma) * jax.vmap(lambda e: jnp.mean(e**2))(error))


def denoising_loss(
    denoiser: AbstractDenoiser,
    key: PRNGKeyArray,
    x: Float[Array, "batch ..."],
    sigma: Float[Array, " batch"],
    conditions: Condition,
    weighting: AbstractWeighting,
    dropout: bool = False,
) -> Float[Array, ""]:
    """Mean over a batch of w(sigma) |D(x + sigma eps, sigma) - x|^2 / dim(x).

    Its minimiser is the posterior mean of x, so (D - x_sigma) / sigma^2 is the score of the noised distribution of x.

    Args:
        denoiser: D.
        key: a key for eps and for the denoiser's dropout.
        x: clean samples, in data units.
        sigma: one noise level for each.
        conditions: one class for each, or None.
        weighting: w.
        dropout: whether D drops features: for few data, not for the student's endless samples.

    Source: arXiv:2206.00364, equation 2 and table 1.
    """
    key_noise, key_dropout = jax.random.split(key)
    keys = jax.random.split(key_dropout, x.shape[0]) if dropout else None
    noise = Noise(sigma, jax.random.normal(key_noise, x.shape))
    return matching_loss(denoiser, x, noise, conditions, weighting, keys)


def default_weight(denoiser: AbstractDenoiser) -> AbstractWeighting:
    """The loss weight that makes the error of a denoiser's network count alike at all noise levels.

    In every convention D = skip x_sigma + out F, F what the network predicts. With F* = (x - skip x_sigma) / out

        w(sigma) |D - x|^2 = w(sigma) out^2 |F - F*|^2

    and the loss is that of the network itself, the same at all sigma, for w = 1 / out^2. So with s = sigma_data:

    - EDM's F has out^2 = sigma^2 s^2 / (sigma^2 + s^2): w = 1 / sigma^2 + 1 / s^2, `EDMWeight`, exactly.
    - Where the noise is predicted (eps, a velocity, a score times sigma) out^2 is sigma^2 up to sigma = s, and w the
      same. Beyond it 1 / s^2 stays of EDM's, since there an error of x is to be seen beside the s.d. of x itself, where
      1 / sigma^2 alone would let it go.
    - Where x itself is predicted out is 1, and the error of x stays bounded as sigma falls: a weight of 1 / sigma^2
      would let the lowest levels alone count. w = 1 / (sigma^2 + s^2), `InverseVarianceWeight`, is bounded too. It is
      also that of a function of which nothing is known, which may be such a network.

    s is a `Denoiser`'s own, else 0.5, the s.d. of images in [-1, 1]. The network below all wrappers is looked at, so
    that it has one weight whether it is imported or wrapped by hand.

    Source: arXiv:2206.00364, section 5 and appendix B.6.
    """
    record = convention(denoiser)
    if isinstance(record, Denoiser):
        return EDMWeight(record.sigma_data)
    noisy = isinstance(record, AbstractConvention) and record.predicts_noise
    return EDMWeight(SIGMA_DATA) if noisy else InverseVarianceWeight(SIGMA_DATA)
