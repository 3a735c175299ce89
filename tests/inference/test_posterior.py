"""Posteriors of programs that observe data: a closed form, and eight schools against posteriordb's reference draws."""

import os
import warnings
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from pplemd.dsl import Program, latent, observe, plate, trace_observed
from pplemd.inference import HMC, NUTS, long_chains, mala, placed, posterior_law

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
def sampled(program, problem, kernel, lam, sizes):
    """Values of the latents, by site, (chain, draw, ...)."""
    chains, warm_up, draws = sizes
    law = placed(posterior_law(problem, program), lambda v: problem.place(program, v, lam))
    starts = jax.vmap(lambda k: problem.draw(k, program))(jax.random.split(jax.random.key(1), chains))
    found = long_chains(jax.random.key(0), law, kernel, starts, warm_up, draws)
    values = jax.vmap(jax.vmap(lambda v: problem.latents(program, problem.place(program, v, lam)[0])))
    return values(found.positions)


def errors(z, mean, square, reference_error):
    """Of means and mean squares, in standard errors, with the reference's own."""
    data = xarray.Dataset({"u": (("chain", "draw", "i"), z), "square": (("chain", "draw", "i"), z**2)})
    assert arviz.ess(data, method="mean").to_array().min() > 400
    found = arviz.mcse(data, method="mean").to_array().values
    off = np.stack([z.mean(axis=(0, 1)) - mean, (z**2).mean(axis=(0, 1)) - square])
    return np.abs(off) / np.hypot(found, reference_error)


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


KERNELS = {"nuts": NUTS(doublings=4), "hmc": HMC(), "mala": mala()}


@pytest.mark.skipif(FILE is None, reason="posteriordb is neither in $PPLEMD_POSTERIORDB nor beside the repository")
@pytest.mark.parametrize(("name", "weight"), [("nuts", 0.0), ("nuts", 0.3), ("hmc", 0.0), ("mala", 0.0)])
def test_eight_schools_are_those_of_the_reference(name, weight):
    """Means and mean squares of all ten parameters within 4 standard errors."""
    program = Schools()
    problem = trace_observed(program)
    sizes = (48, 200, 250) if name in ("nuts", "hmc") else (96, 300, 500)
    z = sampled(program, problem, KERNELS[name], problem.centering(weight), sizes)
    flat = np.concatenate([np.asarray(z["theta"]), *(np.asarray(z[n])[..., None] for n in ("mu", "tau"))], axis=-1)
    with np.load(FILE) as file:
        reference = file["draws"].reshape(-1, 10)
    mean, square = reference.mean(axis=0), (reference**2).mean(axis=0)
    spread = np.stack([reference.std(axis=0), (reference**2).std(axis=0)]) / np.sqrt(len(reference))
    assert errors(flat.astype(np.float64), mean, square, spread).max() < 4
