"""Denoising score matching: how a teacher and the student's score network learn."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from pplemd.diffusion import AbstractSigmas, AbstractWeighting, EDMWeight
from pplemd.errors import RecipeError
from pplemd.teachers import AbstractDenoiser, Denoiser


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


def noised_loss(
    denoiser: AbstractDenoiser,
    key: PRNGKeyArray,
    x: Float[Array, "batch ..."],
    labels: Int[Array, " batch"] | None,
    noise: tuple[AbstractSigmas, AbstractWeighting | None],
    progress: Float[Array, ""],
    dropout: bool = False,
) -> Float[Array, ""]:
    """The denoising loss at noise levels drawn from their distribution, under EDM's weighting by default.

    Raises:
        RecipeError: where no weighting is given and the denoiser has no sigma_data to derive one from.
    """
    sigmas, weighting = noise
    drawn, key_dropout = drawn_noise(key, x.shape, sigmas, progress)
    keys = jax.random.split(key_dropout, x.shape[0]) if dropout else None
    return matching_loss(denoiser, x, drawn, labels, weighting or edm_weight(denoiser), keys)


def edm_weight(denoiser: AbstractDenoiser) -> EDMWeight:
    """EDM's loss weight for a network's own sigma_data.

    Raises:
        RecipeError: where the denoiser has none.
    """
    if not isinstance(denoiser, Denoiser):
        raise RecipeError(
            f"a {type(denoiser).__name__} has no sigma_data to weight its loss by; expected an em.Denoiser, or a "
            "recipe with ScoreRecipe(weighting=...)."
        )
    return EDMWeight(denoiser.sigma_data)
