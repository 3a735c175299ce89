"""Laws whose moments are known, each as one tilted law in seven coordinates; a law's own come first.

A law with density pi(x) is the standard normal of u, tilted by U(x) = -log pi(x) - |u|^2 / 2 at x = T(u) = shift +
scale u, so that u is of order 1. Coordinates that a law does not have stay standard normal, and are checked as such.
All laws are one function of their number: one compilation serves them all.

The posteriors are posteriordb's (BSD-3), in unconstrained coordinates that its reference draws standardise. Their files
are looked for in $PPLEMD_POSTERIORDB, else in data/posteriordb of a folder beside the repository.
"""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float
from scipy import special

from pplemd.inference import Potential, ScorePotential, TiltedTarget
from pplemd.teachers import GaussianMixture

WIDTH = 7


@dataclasses.dataclass(frozen=True)
class Known:
    """A law of x and its moments.

    Attributes:
        name: what it is called.
        log_density: log pi(x), up to a constant.
        mean: of x.
        covariance: of x; of a posterior, of its reference draws.
        diagonal: whether u is scaled by coordinate (and keeps its correlations) or made white.
        reference: draws of x, (draw, dim), where the moments are those of draws.
    """

    name: str
    log_density: Callable[[Array], Array]
    mean: np.ndarray
    covariance: np.ndarray
    diagonal: bool = True
    reference: np.ndarray | None = None

    @property
    def scale(self) -> np.ndarray:
        """Lower triangular, of x = mean + scale u."""
        if self.diagonal:
            return np.diag(np.sqrt(np.diag(self.covariance)))
        return np.linalg.cholesky(self.covariance)

    def reference_error(self) -> np.ndarray:
        """Standard errors of u's mean and variance in the reference draws, (2, 7); 0 where the moments are exact."""
        error = np.zeros((2, WIDTH))
        if self.reference is not None:
            u = np.linalg.solve(self.scale, (self.reference - self.mean).T)
            error[:, : len(u)] = np.stack([u.std(axis=1), (u**2).std(axis=1)]) / np.sqrt(u.shape[1])
        return error


def log_normal(u: Float[Array, " n"]) -> Float[Array, ""]:
    """Log density of the standard normal, without its constant."""
    return -0.5 * jnp.sum(u**2)


def gaussian() -> Known:
    """Three correlated coordinates of unlike scale."""
    covariance = np.array([[1.0, 1.6, 0.0], [1.6, 4.0, -0.3], [0.0, -0.3, 0.25]])
    precision, mean = jnp.asarray(np.linalg.inv(covariance), jnp.float32), np.array([1.0, -2.0, 0.5])

    def log_density(x):
        return -0.5 * (x - jnp.asarray(mean, x.dtype)) @ precision @ (x - jnp.asarray(mean, x.dtype))

    return Known("correlated Gaussian", log_density, mean, covariance)


def skewed(shape: float = 1.5, slant: float = 4.0) -> Known:
    """The log of a gamma variable, and a skew-normal."""

    def log_density(x):
        return shape * x[0] - jnp.exp(x[0]) + norm.logpdf(x[1]) + norm.logcdf(slant * x[1])

    mean = slant / np.sqrt(1 + slant**2) * np.sqrt(2 / np.pi)
    variances = np.array([special.polygamma(1, shape), 1 - mean**2])
    return Known("skewed", log_density, np.array([special.digamma(shape), mean]), np.diag(variances))


def heavy(freedom: float = 10.0) -> Known:
    """Student's t in two coordinates, dependent and not correlated."""

    def log_density(x):
        return -0.5 * (freedom + 2) * jnp.log1p(jnp.sum(x**2) / freedom)

    return Known("Student t", log_density, np.zeros(2), np.eye(2) * freedom / (freedom - 2))


def banana(bend: float = 0.4, width: float = 0.7) -> Known:
    """x_0 ~ N(0, 1), x_1 ~ N(bend (x_0^2 - 1), width^2)."""

    def log_density(x):
        return norm.logpdf(x[0]) + norm.logpdf(x[1], bend * (x[0] ** 2 - 1), width)

    return Known("banana", log_density, np.zeros(2), np.diag([1.0, width**2 + 2 * bend**2]))


def funnel(spread: float = 0.8) -> Known:
    """x_0 ~ N(0, spread^2), x_1 and x_2 ~ N(0, e^x_0): mild enough to be sampled as it is."""

    def log_density(x):
        return norm.logpdf(x[0], 0.0, spread) + jnp.sum(norm.logpdf(x[1:] * jnp.exp(-x[0] / 2)) - x[0] / 2)

    return Known("funnel", log_density, np.zeros(3), np.diag([spread**2, *2 * [np.exp(spread**2 / 2)]]))


def teacher() -> Known:
    """A mixture that the package defines, at noise level 0.4."""
    means, std, weights = np.array([[-1.0, 0.0], [1.2, 1.0]]), np.array([0.5, 0.8]), np.array([0.7, 0.3])
    mixture, sigma = GaussianMixture(means, std, weights), 0.4
    mean = weights @ means
    covariance = np.einsum("k,ki,kj->ij", weights, means - mean, means - mean) + weights @ (std**2 + sigma**2) * np.eye(
        2
    )
    return Known("mixture of the package", lambda x: mixture.log_density(x, jnp.asarray(sigma)), mean, covariance)


def crossed() -> Known:
    """Two narrow normals across each other."""
    along, across, weights, shift = 1.2, 0.45, np.array([0.6, 0.4]), np.array([0.4, 0.0])
    spreads = jnp.asarray([[along, across], [across, along]], jnp.float32)
    centres = jnp.asarray(np.stack([-shift, shift]), jnp.float32)

    def log_density(x):
        parts = jnp.sum(norm.logpdf(x[None], centres, spreads), axis=-1)
        return jax.nn.logsumexp(parts + jnp.log(jnp.asarray(weights, jnp.float32)))

    mean = (weights[1] - weights[0]) * shift
    inner = weights[0] * np.array([along**2, across**2]) + weights[1] * np.array([across**2, along**2])
    return Known("crossed normals", log_density, mean, np.diag(inner + shift**2 - mean**2))


def _from_draws(name: str, log_density: Callable[[Array], Array], draws: np.ndarray) -> Known:
    return Known(name, log_density, draws.mean(axis=0), np.cov(draws.T), diagonal=False, reference=draws)


def _half_cauchy(log_scale: Array) -> Array:
    """Log density of log sigma, sigma ~ half-Cauchy(0, 2.5)."""
    return log_scale - jnp.log1p((jnp.exp(log_scale) / 2.5) ** 2)


def _regression(design: np.ndarray, y: np.ndarray, prior: float) -> Callable[[Array], Array]:
    """Log density of (coefficients, log sigma), the coefficients' prior N(0, 1 / prior), that of sigma half-Cauchy."""
    held_design, held_y = jnp.asarray(design, jnp.float32), jnp.asarray(y, jnp.float32)

    def log_density(x):
        squares = jnp.sum(((held_y - held_design @ x[:-1]) * jnp.exp(-x[-1])) ** 2)
        return -0.5 * squares - len(y) * x[-1] - 0.5 * prior * jnp.sum(x[:-1] ** 2) + _half_cauchy(x[-1])

    return log_density


def kidiq(data: dict, draws: np.ndarray) -> Known:
    """kidiq-kidscore_momiq: kid_score ~ N(beta_1 + beta_2 mom_iq, sigma)."""
    iq = np.asarray(data["mom_iq"])
    log_density = _regression(np.stack([np.ones_like(iq), iq], axis=1), np.asarray(data["kid_score"]), 0.0)
    return _from_draws("kidiq", log_density, np.column_stack([draws[:, :2], np.log(draws[:, 2])]))


def ark(data: dict, draws: np.ndarray) -> Known:
    """arK-arK: y_t ~ N(alpha + sum_k beta_k y_(t-k), sigma), k to 5."""
    y, order = np.asarray(data["y"]), data["K"]
    lags = [y[order - k : len(y) - k] for k in range(1, order + 1)]
    log_density = _regression(np.stack([np.ones(len(y) - order), *lags], axis=1), y[order:], 0.01)
    return _from_draws("arK", log_density, np.column_stack([draws[:, :-1], np.log(draws[:, -1])]))


def gauss_mix(data: dict, draws: np.ndarray) -> Known:
    """low_dim_gauss_mix: (mu_1, log(mu_2 - mu_1), log sigma_1, log sigma_2, logit theta)."""
    y = jnp.asarray(data["y"], jnp.float32)

    def log_density(x):
        low, gap, spreads, logit = x[0], x[1], x[2:4], x[4]
        high = low + jnp.exp(gap)
        shares = jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit)
        parts = [norm.logpdf(y, m, jnp.exp(s)) + w for m, s, w in zip((low, high), spreads, shares, strict=True)]
        prior = -(low**2 + high**2 + jnp.sum(jnp.exp(2 * spreads))) / 8 + 5 * (
            shares[0] + shares[1]
        )  # theta's Jacobian
        return jnp.sum(jnp.logaddexp(*parts)) + prior + gap + jnp.sum(spreads)

    low, high, one, two, theta = draws.T
    free = [low, np.log(high - low), np.log(one), np.log(two), special.logit(theta)]
    return _from_draws("low_dim_gauss_mix", log_density, np.column_stack(free))


FILES = {
    "kidiq": ("kidiq", "kidiq-kidscore_momiq", kidiq),
    "arK": ("arK", "arK-arK", ark),
    "low_dim_gauss_mix": ("low_dim_gauss_mix", "low_dim_gauss_mix-low_dim_gauss_mix", gauss_mix),
}


def posteriors() -> list[Known]:
    """Those of posteriordb whose files are here, none where there are none."""
    named = os.environ.get("PPLEMD_POSTERIORDB")
    beside = sorted(Path(__file__).parents[3].glob("*/data/posteriordb"))
    folder = Path(named) if named else next(iter(beside), None)
    if folder is None or not folder.is_dir():
        return []
    found = []
    for data, draws, build in FILES.values():
        with np.load(folder / "draws" / f"{draws}.npz") as file:
            rows = file["draws"].reshape(-1, file["draws"].shape[-1])
        found.append(build(json.loads((folder / "data" / f"{data}.json").read_text()), rows))
    return found


MISSING = "posteriordb is neither in $PPLEMD_POSTERIORDB nor beside the repository: its posteriors were left out"
POSTERIORS = posteriors()
TARGETS = [skewed(), banana(), teacher(), crossed(), gaussian(), heavy(), funnel(), *POSTERIORS]


def _pushed(known: Known) -> tuple[np.ndarray, np.ndarray]:
    shift, scale = np.zeros(WIDTH), np.eye(WIDTH)
    dim = len(known.mean)
    shift[:dim], scale[:dim, :dim] = known.mean, known.scale
    return shift.astype(np.float32), scale.astype(np.float32)


SHIFTS, SCALES = (jnp.asarray(np.stack(part)) for part in zip(*map(_pushed, TARGETS), strict=True))


def law(number: Array | int, count: int, scores_only: bool) -> TiltedTarget:
    """The law of a number among the first `count` of TARGETS; by its density, or by the gradient of that alone."""
    inverses = jnp.asarray(np.linalg.inv(np.asarray(SCALES, np.float64)), jnp.float32)
    dims = jnp.asarray([len(known.mean) for known in TARGETS])
    shift, scale, inverse, own = (
        part[number] for part in (SHIFTS, SCALES, inverses, jnp.arange(WIDTH)[None] < dims[:, None])
    )
    branches = [lambda x, known=known: -known.log_density(x[: len(known.mean)]) for known in TARGETS[:count]]

    def value(x: Array) -> Array:
        u = inverse @ (x - shift)
        return jax.lax.switch(number, branches, x) + log_normal(jnp.where(own, u, 0.0))

    potential = ScorePotential(jax.grad(value)) if scores_only else Potential(value)
    return TiltedTarget(lambda u: shift + scale @ u, potential, log_normal)


def moments(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Variances of u (its mean is 0), and the standard errors of mean and variance, (2, 7)."""
    known, variances = TARGETS[number], np.ones(WIDTH)
    inverse = np.linalg.inv(known.scale)
    variances[: len(known.mean)] = np.diag(inverse @ known.covariance @ inverse.T)
    return variances, known.reference_error()
