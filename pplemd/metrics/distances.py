"""Distances between samples: Frechet, kernel (MMD), sliced Wasserstein, and the divergence of their classes."""

import equinox as eqx
import numpy as np
import scipy.linalg
from jaxtyping import Float, Float64, Int, Num
from scipy.special import rel_entr

from pplemd.errors import DataError
from pplemd.metrics.base import flat, same_width


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


class KernelDistance(eqx.Module):
    """The squared discrepancy over blocks of samples."""

    mean: float  # over blocks; of either sign where the distributions are one
    std: float | None  # over blocks, of one block's figure, not of the mean; None of one block


def kernel_distance(
    features_a: Num[np.ndarray, "n *shape_a"],
    features_b: Num[np.ndarray, "m *shape_b"],
    blocks: int = 100,
    size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """The kernel Inception distance (KID) on any features: MMD^2 with k(x, y) = (x . y / d + 1)^3.

    Each block draws `size` samples of both without replacement, or all where there are fewer, and takes the mean of k
    over pairs of different samples: its expectation is the squared discrepancy itself, at any count, so that figures of
    unlike counts may be compared, as those of the Frechet distance may not.

    Args:
        features_a: features of one set, (n, d), n >= 2.
        features_b: features of the other, (m, d), m >= 2.
        blocks: how many blocks.
        size: samples of each set in a block.
        seed: of the blocks.

    Raises:
        DataError: fewer than two samples, no block, unlike dimensions, NaN.

    Source: Binkowski et al., arXiv:1801.01401, section 4; the estimator is Gretton et al., JMLR 13 (2012), equation 3.
    """
    a, b = flat(features_a, "features", 2), flat(features_b, "features", 2)
    same_width(a, b)
    if blocks < 1 or size < 2:
        raise DataError(f"found blocks = {blocks} of size = {size}, expected 1 or more of 2 or more: use 100 of 1,000")
    rng = np.random.default_rng(seed)
    whole = size >= max(len(a), len(b))  # every block would be the same
    found = [squared_mmd(_some(a, size, rng), _some(b, size, rng)) for _ in range(1 if whole else blocks)]
    return KernelDistance(float(np.mean(found)), float(np.std(found)) if len(found) > 1 else None)


def squared_mmd(a: Float64[np.ndarray, "n d"], b: Float64[np.ndarray, "m d"]) -> float:
    """The unbiased estimate of MMD^2 with k(x, y) = (x . y / d + 1)^3."""
    own = sum((kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1)) for x in (a, b) for kernel in [_cubic(x, x)])
    return float(own - 2 * _cubic(a, b).mean())


def _cubic(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _some(x: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return x[rng.choice(len(x), min(size, len(x)), replace=False)]


def _quantile_distance(
    a: Float64[np.ndarray, "n p"], b: Float64[np.ndarray, "m p"], order: int
) -> Float64[np.ndarray, " p"]:
    """Order-th power of each column's Wasserstein distance: the integral of |F_a^-1 - F_b^-1|^order, for any counts."""
    a, b = np.sort(a, axis=0), np.sort(b, axis=0)
    if len(a) == len(b):
        return (np.abs(a - b) ** order).mean(axis=0)
    steps = np.union1d(np.arange(len(a) + 1) / len(a), np.arange(len(b) + 1) / len(b))
    middles = (steps[1:] + steps[:-1]) / 2.0  # both quantile functions are constant between steps
    quantiles_a = a[np.minimum((middles * len(a)).astype(int), len(a) - 1)]
    quantiles_b = b[np.minimum((middles * len(b)).astype(int), len(b) - 1)]
    return np.diff(steps) @ np.abs(quantiles_a - quantiles_b) ** order


def sliced_wasserstein(
    a: Num[np.ndarray, "n *shape_a"],
    b: Num[np.ndarray, "m *shape_b"],
    projections: int = 128,
    seed: int = 0,
    order: int = 2,
) -> float:
    """The sliced Wasserstein distance: 1-D distances W_p of random directions, SW_p = (mean W_p^p)^(1/p).

    In one dimension it is the Wasserstein distance itself, |s| for a shift by s. An estimate needs its floor beside it:
    between separate modes the sampling noise of SW_2 falls as n^-1/4 only, that of SW_1 as n^-1/2.

    Args:
        a: samples of one set, (n, d).
        b: samples of the other, (m, d).
        projections: number of directions, uniform on the sphere.
        seed: seed of the directions.
        order: p, 1 or 2.

    Returns:
        The distance in units of the data.

    Raises:
        DataError: no samples, unlike dimensions, NaN, no projections, or an order that is neither 1 nor 2.

    Source: Bonneel et al., J. Mathematical Imaging and Vision 51 (2015), section 3.
    """
    if projections < 1:
        raise DataError(f"found projections = {projections}, expected at least 1: use 128")
    if order not in (1, 2):
        raise DataError(f"found order = {order}, expected 1 or 2")
    rows_a, rows_b = flat(a, "samples"), flat(b, "samples")
    same_width(rows_a, rows_b)
    directions = np.random.default_rng(seed).standard_normal((rows_a.shape[1], projections))
    directions /= np.linalg.norm(directions, axis=0)[None, :]
    return float(_quantile_distance(rows_a @ directions, rows_b @ directions, order).mean() ** (1 / order))


SMOOTHING = 1e-6  # probability added to every reference class: one that it lacks costs about 14 nats a unit of mass


def class_kl(
    labels: Int[np.ndarray, " n"], reference_probabilities: Float[np.ndarray, " n_reference"], classes: int
) -> float:
    """KL(histogram of the labels || reference) in nats.

    sum_c h_c log(h_c / r_c) with r_c = (reference_c + 1e-6) / (1 + 1e-6 classes): the reference alone is smoothed, so
    that the figure stays finite; a class that the labels lack adds nothing to the sum. Labels drawn from the reference
    itself give (classes - 1) / (2 n) on average, not 0.

    Args:
        labels: class index of each sample, in [0, classes).
        reference_probabilities: share of each class, (classes,), summing to 1.
        classes: number of classes.

    Returns:
        The divergence in nats, at least 0.

    Raises:
        DataError: no labels, a label out of range, or probabilities that are not `classes` shares of 1.
    """
    found = reference_probabilities
    if found.shape != (classes,) or not (found.min() >= 0.0 and abs(found.sum() - 1.0) < 1e-4):
        raise DataError(
            f"found reference probabilities of shape {found.shape} and sum {found.sum():.4g}, expected {classes} "
            "shares of 1: divide the class counts by their sum"
        )
    if labels.size == 0 or not 0 <= labels.min() <= labels.max() < classes:
        shown = "no labels" if labels.size == 0 else f"labels in [{labels.min()}, {labels.max()}]"
        raise DataError(f"found {shown}, expected class indices in [0, {classes}): check the labels and `classes`")
    share = np.bincount(labels, minlength=classes) / len(labels)
    smoothed = (found.astype(np.float64) + SMOOTHING) / (found.sum() + SMOOTHING * classes)
    return float(rel_entr(share, smoothed).sum())
