"""Denoising score matching: how a teacher and the student's score network learn."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from pplemd.diffusion import AbstractSigmas, AbstractWeighting, EDMWeight
from pplemd.errors import RecipeError
from pplemd.teachers import AbstractDenoiser, Denoiser


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
    """The denoising loss at noise levels drawn from their distribution, under EDM's weighting by default.

    Raises:
        RecipeError: where no weighting is given and the denoiser has no sigma_data to derive one from.
    """
    key_sigma, key_noise = jax.random.split(key)
    sigmas, weighting = noise
    sigma = sigmas.sample(key_sigma, (x.shape[0],), progress)
    return denoising_loss(denoiser, key_noise, x, sigma, labels, weighting or edm_weight(denoiser), dropout)


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
