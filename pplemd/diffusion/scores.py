"""Two forms of one thing, denoiser and score (Tweedie's formula), and EDM's preconditioning of a raw network."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from pplemd.errors import RecipeError


def score_from_denoised(
    denoised: Float[Array, "*shape"], x_sigma: Float[Array, "*shape"], sigma: Float[Array, ""] | float
) -> Float[Array, "*shape"]:
    """Return the score `(D(x_sigma, sigma) - x_sigma) / sigma^2` of the noised distribution.

    Args:
        denoised: the posterior mean of the clean sample given `x_sigma`, any shape, data units.
        x_sigma: the noised sample `x + sigma * eps`, same shape.
        sigma: noise s.d. in data units, positive.

    Returns:
        The gradient of the noised log-density at `x_sigma`, same shape, per data unit.

    Source: arXiv:2206.00364, equation 3.
    """
    return (denoised - x_sigma) / sigma**2


def denoised_from_score(
    score: Float[Array, "*shape"], x_sigma: Float[Array, "*shape"], sigma: Float[Array, ""] | float
) -> Float[Array, "*shape"]:
    """Return the posterior mean `x_sigma + sigma^2 * score` of the clean sample.

    Args:
        score: gradient of the noised log-density at `x_sigma`, any shape, per data unit.
        x_sigma: the noised sample `x + sigma * eps`, same shape.
        sigma: noise s.d. in data units.

    Returns:
        The denoised sample, same shape, data units.

    Source: arXiv:2206.00364, equation 3, solved for the denoiser.
    """
    return x_sigma + sigma**2 * score


class Preconditioning(eqx.Module):
    """The four coefficients of `D(x_sigma, sigma) = skip * x_sigma + out * F(scale_in * x_sigma, noise)`."""

    skip: Float[Array, ""]  # weight of the noised input in the denoised output
    out: Float[Array, ""]  # weight of the network's output, in data units
    scale_in: Float[Array, ""]  # factor on the network's input, per data unit
    noise: Float[Array, ""]  # what the network gets of the noise level: log(sigma) / 4


def precondition(sigma: Float[Array, ""] | float, sigma_data: float) -> Preconditioning:
    """Return the coefficients that give network input and target unit variance at one noise level.

    With `v = sigma^2 + sigma_data^2`:
    `skip = sigma_data^2 / v`, `out = sigma sigma_data / sqrt(v)`, `scale_in = 1 / sqrt(v)`, `noise = log(sigma) / 4`.

    Args:
        sigma: noise s.d. in data units, positive.
        sigma_data: s.d. of the data, in data units.

    Returns:
        The four coefficients, each a scalar of sigma's dtype.

    Raises:
        RecipeError: sigma_data is not positive.

    Source: arXiv:2206.00364, Table 1 and appendix B.6.
    """
    if sigma_data <= 0:
        raise RecipeError(
            f"sigma_data is {sigma_data}; expected the s.d. of the data, above 0. "
            "Pass the s.d. of the training set (about 0.5 for images in [-1, 1])."
        )
    sigma = jnp.asarray(sigma)
    variance = sigma**2 + sigma_data**2
    root = jnp.sqrt(variance)
    return Preconditioning(
        skip=sigma_data**2 / variance, out=sigma * sigma_data / root, scale_in=1 / root, noise=jnp.log(sigma) / 4
    )
