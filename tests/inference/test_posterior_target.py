"""Posteriors of programs that observe data: a closed form, and eight schools against posteriordb's reference draws."""

import functools
import os
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.scipy.special import ndtri

from pplemd.dsl import Program, latent, observe, plate, trace_observed
from pplemd.inference import HMC, MCLMC, NUTS, barkers, long_chains, mala, posterior_target, transformed
from pplemd.parameterization import Placement, Policy, scored

with warnings.catch_warnings():  # ArviZ 0.23 warns of its successor
    warnings.simplefilter("ignore")
    import arviz
    import xarray

Y = jnp.asarray([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = jnp.asarray([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
DRAWS = "draws/eight_schools-eight_schools_noncentered.npz"
FOLDERS = [Path(os.environ.get("PPLEMD_POSTERIORDB", "/nowhere"))]
FOLDERS += sorted(Path(__file__).parents[3].glob("*/data/posteriordb"))
FILE = next((folder / DRAWS for folder in FOLDERS if (folder / DRAWS).is_file()), None)


class Schools(Program):
    """Rubin 1981, with the priors of posteriordb."""

    def __call__(self):
        mu = latent("mu", dist.Normal(0.0, 5.0))
        tau = latent("tau", dist.HalfCauchy(5.0))
        with plate("schools", 8):
            theta = latent("theta", dist.Normal(mu, tau))
            observe("y", dist.Normal(theta, ERROR), Y)


class Normals(Program):
    """mu ~ N(1, 2^2), theta_j ~ N(mu, 0.5^2), y_j ~ N(theta_j, 1): jointly normal."""

    def __call__(self):
        mu = latent("mu", dist.Normal(1.0, 2.0))
        with plate("rows", 3):
            observe("y", dist.Normal(latent("theta", dist.Normal(mu, 0.5)), 1.0), jnp.asarray([2.0, -1.0, 0.5]))


def exact_normals():
    """Mean and covariance of (mu, theta) given y, by conditioning the joint normal."""
    prior = np.full((4, 4), 4.0) + np.diag([0.0, 0.25, 0.25, 0.25])
    seen, y = prior[:, 1:], np.array([2.0, -1.0, 0.5])
    gain = seen @ np.linalg.inv(prior[1:, 1:] + np.eye(3))
    return 1.0 + gain @ (y - 1.0), prior - gain @ seen.T


@eqx.filter_jit
def sampled(program, problem, kernel, lam, sizes, shrink=1.0):
    """Values of the latents, by site, (chain, draw, ...), from draws of the prior, shrunk in base coordinates."""
    chains, warm_up, draws = sizes
    law = transformed(posterior_target(problem, program), lambda v: problem.to_base(program, v, lam))
    starts = jax.vmap(lambda k: problem.draw(k, program))(jax.random.split(jax.random.key(1), chains))
    starts = jax.tree.map(lambda leaf: shrink * leaf, starts)
    found = long_chains(jax.random.key(0), law, kernel, starts, warm_up, draws)
    values = jax.vmap(jax.vmap(lambda v: problem.latents(program, problem.to_base(program, v, lam)[0])))
    return values(found.positions)


def errors(z, mean, square, reference_error):
    """Of means and mean squares, in standard errors, with the reference's own."""
    data = xarray.Dataset({"u": (("chain", "draw", "i"), z), "square": (("chain", "draw", "i"), z**2)})
    assert arviz.ess(data, method="mean").to_array().min() > 400
    found = arviz.mcse(data, method="mean").to_array().values
    off = np.stack([z.mean(axis=(0, 1)) - mean, (z**2).mean(axis=(0, 1)) - square])
    return np.abs(off) / np.hypot(found, reference_error)


@pytest.mark.slow_for("0.0")
@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_a_normal_posterior_is_the_closed_form(weight):
    program = Normals()
    problem = trace_observed(program)
    z = sampled(program, problem, HMC(None, 3), problem.centering(weight), (40, 150, 200))
    flat = np.concatenate([np.asarray(z["mu"])[..., None], np.asarray(z["theta"])], axis=-1).astype(np.float64)
    mean, covariance = exact_normals()
    assert errors(flat, mean, np.diag(covariance) + mean**2, 0.0).max() < 4
    product = np.mean((flat[..., 0] - mean[0]) * (flat[..., 1] - mean[1]))
    np.testing.assert_allclose(product, covariance[0, 1], rtol=0.25)


NEEDS = pytest.mark.skipif(
    FILE is None, reason="posteriordb is neither in $PPLEMD_POSTERIORDB nor beside the repository"
)
SCHOOLS = Schools()
PROBLEM = trace_observed(SCHOOLS)


def reference():
    """Means and mean squares of all ten parameters, and their standard errors: posteriordb's draws are independent."""
    with np.load(FILE) as file:
        draws = file["draws"].reshape(-1, 10)
    spread = np.stack([draws.std(axis=0), (draws**2).std(axis=0)]) / np.sqrt(len(draws))
    return draws.mean(axis=0), (draws**2).mean(axis=0), spread


def together(z):
    """All ten in posteriordb's order, in double precision."""
    parts = [np.asarray(z["theta"]), *(np.asarray(z[name])[..., None] for name in ("mu", "tau"))]
    return np.concatenate(parts, axis=-1).astype(np.float64)


@pytest.fixture(scope="module")
def by_nuts():
    """Of a lambda, draws by NUTS: one compilation for all; those of one number for all sites are kept."""

    def draws(lam):
        return sampled(SCHOOLS, PROBLEM, NUTS(doublings=4), lam, (48, 200, 250))

    of_number = functools.cache(lambda number: draws(PROBLEM.centering(number)))
    return lambda lam: of_number(lam) if isinstance(lam, float) else draws(lam)


def thinned(z, every):
    """Base coordinates of some of these draws, (draw, ...)."""
    u = {"theta": (z["theta"] - z["mu"][..., None]) / z["tau"][..., None], "mu": z["mu"] / 5.0}
    u["tau"] = ndtri(2 / jnp.pi * jnp.arctan(z["tau"] / 5.0))
    return jax.tree.map(lambda leaf: leaf[:, ::every].reshape(-1, *leaf.shape[2:]), u)


def chosen(z):
    """What the policy chooses by some of these draws."""
    u = thinned(z, 60)
    return Policy().choose(Placement(PROBLEM, SCHOOLS), scored(posterior_target(PROBLEM, SCHOOLS), u)).lam


@pytest.mark.slow
@NEEDS
@pytest.mark.parametrize("weight", [0.0, 0.5, "auto"])
def test_eight_schools_are_those_of_the_reference(by_nuts, weight):
    """Within 4 standard errors, from draws of the prior; lambda = 1, which does not reach the funnel's neck, below."""
    lam = chosen(by_nuts(0.0)) if weight == "auto" else PROBLEM.centering(weight)
    z = by_nuts(lam) if weight == "auto" else by_nuts(weight)
    mean, square, error = reference()
    assert errors(together(z), mean, square, error).max() < 4


@pytest.mark.slow
@NEEDS
def test_centered_chains_stay_where_the_reference_is(by_nuts):
    """From draws of the posterior: lambda = 1 leaves it as it is, neck and all, though its chains do not get there."""
    starts = thinned(by_nuts(0.0), 50)

    @eqx.filter_jit
    def centered(program, problem, starts):
        lam = problem.centering(1.0)
        law = transformed(posterior_target(problem, program), lambda v: problem.to_base(program, v, lam))
        entered = jax.vmap(lambda u: problem.from_base(program, u, lam))(starts)
        found = long_chains(jax.random.key(4), law, HMC(jnp.asarray(0.1), 4), entered, 0, 60)
        values = jax.vmap(jax.vmap(lambda v: problem.latents(program, problem.to_base(program, v, lam)[0])))
        return values(found.positions)

    z = together(centered(SCHOOLS, PROBLEM, starts))
    moved = np.abs(np.diff(z, axis=1)).max(axis=-1) > 0
    assert moved.mean() > 0.5
    mean, square, error = reference()
    by_chain = np.stack([z.mean(axis=1), (z**2).mean(axis=1)], axis=1)  # chains are independent: (chain, 2, 10)
    off = by_chain.mean(axis=0) - np.stack([mean, square])
    own = by_chain.std(axis=0, ddof=1) / np.sqrt(len(by_chain))
    assert (np.abs(off) / np.hypot(own, error)).max() < 4
    assert (own[0] / np.sqrt(square - mean**2)).max() < 0.1  # small enough to tell


@pytest.mark.slow
@NEEDS
@pytest.mark.parametrize("kernel", [HMC(), mala(), barkers()], ids=["hmc", "mala", "barker"])
def test_every_adjusted_kernel_draws_the_same(kernel):
    sizes = (48, 200, 250) if kernel == HMC() else (96, 300, 1000)  # short moves: more draws for the same ESS
    z = sampled(SCHOOLS, PROBLEM, kernel, PROBLEM.centering(0.0), sizes)
    mean, square, error = reference()
    assert errors(together(z), mean, square, error).max() < 4


@pytest.mark.slow
@NEEDS
def test_unadjusted_motion_has_the_bias_of_its_step():
    """MCLMC accepts everything: steps of .2 err by less than .05 s.d., steps of .5 make every effect too wide.

    With steps that adapt, or from draws of the prior, some chains leave along the tail of tau and never come back.
    """
    mean, square, _ = reference()
    sd = np.sqrt(square - mean**2)
    wide = []
    for size in (0.2, 0.5):
        kernel = MCLMC(jnp.asarray(size))
        z = together(sampled(SCHOOLS, PROBLEM, kernel, PROBLEM.centering(0.0), (96, 100, 500), shrink=0.3))
        wide.append(z.std(axis=(0, 1)) / sd)
        if size == 0.2:
            assert np.abs((z.mean(axis=(0, 1)) - mean) / sd).max() < 0.05
    assert np.abs(wide[0] - 1).max() < 0.05
    assert wide[1][:8].min() > 1.1
