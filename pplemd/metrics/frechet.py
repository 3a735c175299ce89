"""The Frechet distance of two Gaussians, and of features through their Gaussian fits."""

import numpy as np
import scipy.linalg
from jaxtyping import Float, Num

from pplemd.errors import DataError
from pplemd.metrics.validation import flat, same_width


def frechet_gaussians(
    mean_a: Float[np.ndarray, " d"],
    covariance_a: Float[np.ndarray, "d d"],
    mean_b: Float[np.ndarray, " d"],
    covariance_b: Float[np.ndarray, "d d"],
) -> float:
    r"""The squared Frechet (2-Wasserstein) distance of two Gaussians.

    |m_a - m_b|^2 + tr(C_a) + tr(C_b) - 2 tr((C_a^1/2 C_b C_a^1/2)^1/2). Both square roots come from eigenvalues of
    symmetric matrices, those below zero by rounding taken as zero, so singular covariances are no special case.

    Args:
        mean_a: mean of the first, (d,).
        covariance_a: covariance of the first, (d, d), symmetric.
        mean_b: mean of the second.
        covariance_b: covariance of the second.

    Returns:
        The distance in squared units of the data; at least 0.

    Source: Dowson and Landau, J. Multivariate Analysis 12 (1982), equation 4.
    """
    values, vectors = scipy.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.maximum(scipy.linalg.eigvalsh(root @ covariance_b @ root), 0.0)
    means = float(np.sum((mean_a - mean_b) ** 2))
    return max(means + float(np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * np.sqrt(cross).sum()), 0.0)


def frechet(features_a: Num[np.ndarray, "n *shape_a"], features_b: Num[np.ndarray, "m *shape_b"]) -> float:
    """The squared Frechet distance of the Gaussians fitted to two sets of features.

    It is biased upwards at finite counts, more so for fewer samples: compare only figures of equal counts.

    Args:
        features_a: features of one set, (n, d), n >= 2.
        features_b: features of the other, (m, d), m >= 2.

    Returns:
        The distance in squared units of the features.

    Raises:
        DataError: fewer than two samples, unlike dimensions, NaN.

    Source: Heusel et al., arXiv:1706.08500, equation 6, which applies it to Inception features.
    """
    a, b = flat(features_a, "features", 2), flat(features_b, "features", 2)
    same_width(a, b)
    with np.errstate(over="ignore", invalid="ignore"):
        covariances = [np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (a, b)]
    if np.isfinite(covariances).all():
        distance = frechet_gaussians(a.mean(axis=0), covariances[0], b.mean(axis=0), covariances[1])
        if np.isfinite(distance):
            return distance
    raise DataError("found features too large to square, expected moderate numbers: rescale the samples")
