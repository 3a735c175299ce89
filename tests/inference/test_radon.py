"""Radon in Minnesota: long chains of the centered and of the non-centered form draw the same posterior.

Data: posteriordb's radon_mn.json (BSD-3); the model is its hierarchical intercept (Gelman & Hill 2007, chapter 12).
"""

import json
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
from pplemd.inference import NUTS, long_chains, placed, posterior_law

with warnings.catch_warnings():  # ArviZ 0.23 warns of its successor
    warnings.simplefilter("ignore")
    import arviz
    import xarray

FOLDERS = [Path(os.environ.get("PPLEMD_POSTERIORDB", "/nowhere"))]
FOLDERS += sorted(Path(__file__).parents[3].glob("*/data/posteriordb"))
FILE = next((path for folder in FOLDERS if (path := folder / "data" / "radon_mn.json").is_file()), None)
pytestmark = pytest.mark.skipif(
    FILE is None, reason="posteriordb is neither in $PPLEMD_POSTERIORDB nor beside the repository"
)
COUNTIES = 85


class Radon(Program):
    """A level for each county; slopes of the county's uranium and of the floor; all sampled, nothing trained."""

    county: jax.Array
    features: jax.Array
    y: jax.Array

    def __call__(self):
        mean = latent("mean", dist.Normal(0.0, 10.0))
        spread = latent("spread", dist.HalfNormal(1.0))
        error = latent("error", dist.HalfNormal(1.0))
        slopes = latent("slopes", dist.Normal(jnp.zeros(2), 10.0).to_event(1))
        with plate("counties", COUNTIES):
            alpha = latent("alpha", dist.Normal(mean, spread))
        with plate("houses", len(self.county)):
            level = alpha[self.county] + self.features @ slopes
            observe("y", dist.Normal(level, error), jax.lax.stop_gradient(self.y))


@pytest.fixture(scope="module")
def radon():
    """The program with the file's data, and its problem."""
    data = json.loads(FILE.read_text())
    features = np.stack([data["log_uppm"], data["floor_measure"]], axis=-1).astype(np.float32)
    county = jnp.asarray(np.asarray(data["county_idx"]) - 1)
    program = Radon(county, jnp.asarray(features), jnp.asarray(data["log_radon"], jnp.float32))
    return program, trace_observed(program)


@eqx.filter_jit
def drawn(program, problem, lam, chains=16, warm_up=500, draws=700):
    """All parameters by long NUTS chains in the coordinates of lambda, (chain, draw, parameter)."""
    law = placed(posterior_law(problem, program), lambda v: problem.place(program, v, lam))
    starts = jax.vmap(lambda k: problem.draw(k, program))(jax.random.split(jax.random.key(1), chains))
    found = long_chains(jax.random.key(0), law, NUTS(doublings=7), starts, warm_up, draws)
    values = jax.vmap(jax.vmap(lambda v: problem.latents(program, problem.place(program, v, lam)[0])))(found.positions)
    return jnp.concatenate([values[name].reshape(chains, draws, -1) for name in sorted(values)], axis=-1)


def moments(z):
    """Means and mean squares of each parameter, their standard errors, and effective sample sizes."""
    z = np.asarray(z, np.float64)
    data = xarray.Dataset({name: (("chain", "draw", "i"), each) for name, each in (("mean", z), ("square", z**2))})
    error, ess = (of(data, method="mean").to_array().values for of in (arviz.mcse, arviz.ess))
    return np.stack([z.mean(axis=(0, 1)), (z**2).mean(axis=(0, 1))]), error, ess


def test_both_forms_draw_the_same(radon):
    program, problem = radon
    (one, error, ess), (other, other_error, other_ess) = (
        moments(drawn(program, problem, problem.centering(number))) for number in (0.0, 1.0)
    )
    assert one.shape == (2, COUNTIES + 5)
    assert min(ess.min(), other_ess.min()) > 400
    assert (np.abs(one - other) / np.hypot(error, other_error)).max() < 4.5  # of 180, all but independent
