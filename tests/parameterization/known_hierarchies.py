"""Normal hierarchies with exact, independent draws of their posteriors, and exact scores."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy.stats import norm

from pplemd.dsl import Program, latent, observe, trace_observed
from pplemd.inference import TiltedTarget, posterior_target
from pplemd.parameterization import Pilot, Placement, scored


@dataclasses.dataclass(frozen=True)
class Known:
    """A posterior.

    Attributes:
        placement: its program.
        law: in base coordinates.
        pilot: exact draws with their scores.
        kappa: of each element of theta, at the scale that the data were made with.
    """

    placement: Placement
    law: TiltedTarget
    pilot: Pilot
    kappa: np.ndarray

    @property
    def pair(self):
        """What a criterion looks at."""
        return self.placement, self.pilot


class Gaussian(Program):
    """mu ~ N(0, 3), theta_j ~ N(mu, tau), y_j ~ N(theta_j, error_j); tau is trained."""

    tau: jax.Array
    error: jax.Array

    def __call__(self):
        mu = latent("mu", dist.Normal(0.0, 3.0))
        theta = latent("theta", dist.Normal(mu, self.tau).expand(self.error.shape))
        observe("y", dist.Normal(theta, self.error), jnp.zeros(self.error.shape))


class Normals(Program):
    """mu ~ N(0, 5), tau ~ half-N(0, 2), theta_j ~ N(mu, tau), y_j ~ N(theta_j, error_j)."""

    error: jax.Array

    def __call__(self):
        mu = latent("mu", dist.Normal(0.0, 5.0))
        tau = latent("tau", dist.HalfNormal(2.0))
        theta = latent("theta", dist.Normal(mu, tau).expand(self.error.shape))
        observe("y", dist.Normal(theta, self.error), jnp.zeros(self.error.shape))


def gaussian(errors, tau=1.0, draws=4000, seed=0) -> Known:
    """A Gaussian posterior: that of `Gaussian`, data of its own tau."""
    errors, count = np.asarray(errors), len(errors)
    rng = np.random.default_rng(seed)
    y = rng.normal(size=count) * np.sqrt(tau**2 + errors**2)
    precision = 1 / (tau**2 + errors**2)
    spread = 1 / np.sqrt(1 / 9 + precision.sum())
    mu = spread**2 * (precision * y).sum() + spread * rng.normal(size=draws)
    theta = _thetas(rng, mu, np.full(draws, tau), y, errors)
    u = {"mu": mu / 3, "theta": (theta - mu[:, None]) / tau}
    return _known(Gaussian(jnp.asarray(tau), _single(errors)), y, u, tau**2 / (tau**2 + errors**2))


def hierarchy(error, spread=1.0, count=20, draws=2000, seed=0) -> Known:
    """The posterior of `Normals`, data of tau = spread exactly.

    The posterior of (mu, tau) is drawn from a fine grid, that of theta given them is Gaussian.
    """
    rng = np.random.default_rng(seed)
    y = norm.ppf((np.arange(count) + 0.5) / count)
    y *= np.sqrt((spread**2 + error**2) / np.mean(y**2))
    mus, taus = np.linspace(-4, 4, 401), np.exp(np.linspace(-7, 2, 451))
    log_p = norm.logpdf(mus, 0, 5)[:, None] + (norm.logpdf(taus, 0, 2) + np.log(taus))[None]
    log_p = log_p + sum(norm.logpdf(one, mus[:, None], np.sqrt(taus**2 + error**2)[None]) for one in y)
    p = np.exp(log_p - log_p.max()).ravel()
    which = rng.choice(p.size, draws, p=p / p.sum())
    mu = mus[which // taus.size] + 0.02 * (rng.random(draws) - 0.5)
    tau = taus[which % taus.size] * np.exp(0.02 * (rng.random(draws) - 0.5))
    theta = _thetas(rng, mu, tau, y, np.full(count, error))
    u = {"mu": mu / 5, "tau": norm.ppf(2 * norm.cdf(tau / 2) - 1), "theta": (theta - mu[:, None]) / tau[:, None]}
    return _known(Normals(_single(np.full(count, error))), y, u, np.full(count, spread**2 / (spread**2 + error**2)))


def _thetas(rng, mu, tau, y, errors):
    share = tau[:, None] ** 2 / (tau[:, None] ** 2 + errors**2)
    mean = share * y + (1 - share) * mu[:, None]
    return mean + np.sqrt(share) * errors * rng.normal(size=mean.shape)


@functools.cache
def _traced(kind, count):
    """One problem for all posteriors of a kind: what is compiled for one serves the others."""
    errors = jnp.ones(count)
    return trace_observed(Gaussian(jnp.ones(()), errors) if kind is Gaussian else Normals(errors))


def _known(program, y, u, kappa) -> Known:
    problem = _traced(type(program), len(y)).given({"y": _single(y)})
    law = posterior_target(problem, program)
    return Known(Placement(problem, program), law, scored(law, {name: _single(one) for name, one in u.items()}), kappa)


def _single(numbers):
    return jnp.asarray(numbers, jnp.float32)
