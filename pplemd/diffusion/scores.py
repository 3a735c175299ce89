"""Tweedie's formula: a denoiser and a score are two forms of one thing."""

from jaxtyping import Array, Float


def score_from_denoised(
    denoised: Float[Array, "*shape"], x_sigma: Float[Array, "*shape"], sigma: Float[Array, ""] | float
) -> Float[Array, "*shape"]:
    """Return the score `(D(x_sigma, sigma) - x_sigma) / sigma^2` of the noised law.

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
