"""What is known in closed form of centering: to choose by, and to hold other criteria against."""

from jaxtyping import Array, Float

from pplemd.dsl import Centering


def kappa(tau: Float[Array, "..."], error: Float[Array, "..."]) -> Float[Array, "..."]:
    """Share of a precision that data tell: tau^2 / (tau^2 + error^2), of theta ~ N(mu, tau), y ~ N(theta, error).

    Source: Papaspiliopoulos, Roberts & Skold 2007.
    """
    return tau**2 / (tau**2 + error**2)


def centered_by_curvature(scale: Float[Array, "..."], curvature: Float[Array, "..."]) -> Array:
    """Whether a node z | parent ~ N(w y, scale^2) mixes better centered: scale^2 > -1 / curvature.

    Args:
        scale: s.d. of z given its parents.
        curvature: beta = d^2/dz^2 log p(children | z), 0 or less; of a generator, -|dg/dz|^2 / sigma^2.

    Source: Kingma & Welling, arXiv:1402.0480.
    """
    return -curvature * scale**2 > 1.0


def squared_correlations(
    scale: Float[Array, "..."], weight: Float[Array, "..."], alpha: Float[Array, "..."], beta: Float[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Squared correlations of parent y and child under the posterior: (centered, non-centered).

    Of log p = -(z - w y)^2 / (2 s^2) + alpha y^2 / 2 + beta z^2 / 2, in (y, z) and in (y, (z - w y) / s).

    Args:
        scale: s.
        weight: w.
        alpha: curvature of the parent's other terms, below 0.
        beta: curvature of the child's other terms, below 0.

    Source: Kingma & Welling, arXiv:1402.0480, with w for the weight of the parent.
    """
    centered = weight**2 / ((weight**2 - alpha * scale**2) * (1.0 - beta * scale**2))
    other = weight**2 * scale**2 * beta**2 / ((alpha + weight**2 * beta) * (scale**2 * beta - 1.0))
    return centered, other


def best_for_gaussians(share: dict[str, Float[Array, "..."]]) -> Centering:
    """The lambdas of least Fisher divergence in a Gaussian hierarchy, theta ~ N(mu, tau), y ~ N(theta, error).

    lambda_loc = kappa: then v does not depend on mu. No lambda_scale makes v independent of t = log tau: given t, the
    logarithm of its s.d. has slope a = lambda_scale - kappa, its mean slope b = kappa (y - mu) (lambda_scale - 2 kappa
    + 1), which alone would be 0 at 2 kappa - 1. To second order in the spread of t, D grows by 3 a^2 + b^2 / Var(v|t),
    where on average over y ~ N(mu, tau^2 + error^2) the last is kappa / (1 - kappa) (lambda_scale - 2 kappa + 1)^2. The
    least D is at lambda_scale = kappa (2 - kappa) / (3 - 2 kappa).

    Args:
        share: kappa of each element, by site.
    """
    return Centering(share, {name: one * (2.0 - one) / (3.0 - 2.0 * one) for name, one in share.items()})
