"""Simulation-based calibration: uniform ranks of the posterior sampler, and of a wrong one not."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from pplemd.dsl import Program, latent, observe, plate, trace_observed
from pplemd.errors import ProgramError, RecipeError
from pplemd.inference import HMC, Calibration, ChainSampler, calibration, long_chains, posterior_target, transformed

KEY = jax.random.key(0)
LEVEL = 1e-3  # of the chi-square test of all elements together


class Hierarchy(Program):
    """mu ~ N(0, 2), tau ~ log N(0, .5), theta_j ~ N(mu, tau), y_j ~ N(theta_j, .7)."""

    def __call__(self):
        mu = latent("mu", dist.Normal(0.0, 2.0))
        tau = latent("tau", dist.LogNormal(0.0, 0.5))
        with plate("rows", 4) as rows:
            observe("y", dist.Normal(latent("theta", dist.Normal(mu, tau)), 0.7), jnp.zeros(4)[rows])


class Rows(Program):
    """Rows that share nothing."""

    def __call__(self):
        with plate("rows", 4) as rows:
            observe("y", dist.Normal(latent("theta", dist.Normal(jnp.zeros(rows.shape), 1.0)), 0.7), jnp.zeros(4)[rows])


PROGRAM = Hierarchy()
PROBLEM = trace_observed(PROGRAM)
HALF = PROBLEM.centering(0.5)
KERNEL = HMC(leapfrogs=5)
REPLICATES, DRAWS, WARM_UP, THIN = 240, 31, 100, 3


def without_determinant(key, problem, program, start, draws):
    """As `ChainSampler`, its law without log|det du/dv|."""
    law = transformed(
        posterior_target(problem, program), lambda v: (problem.to_base(program, v, HALF)[0], jnp.zeros(()))
    )
    starts = jax.tree.map(lambda leaf: leaf[None], problem.from_base(program, start, HALF))
    run = long_chains(key, law, KERNEL, starts, WARM_UP, THIN * draws)
    kept = jax.tree.map(lambda leaf: leaf[0, THIN - 1 :: THIN], run.positions)
    return jax.vmap(lambda v: problem.to_base(program, v, HALF)[0])(kept)


@pytest.mark.slow
def test_ranks_of_the_posterior_sampler_are_uniform():
    found = calibration(KEY, PROBLEM, PROGRAM, ChainSampler(KERNEL, HALF, WARM_UP, THIN), REPLICATES, DRAWS)
    assert {name: ranks.shape for name, ranks in found.ranks.items()} == {
        "mu": (240,),
        "tau": (240,),
        "theta": (240, 4),
    }
    assert found.p_value() > LEVEL


@pytest.mark.slow
def test_ranks_of_a_sampler_without_its_determinant_are_not():
    found = calibration(KEY, PROBLEM, PROGRAM, without_determinant, REPLICATES, DRAWS)
    assert found.p_value() < LEVEL
    assert float(found.p_values()["tau"]) < LEVEL  # the scale, which the determinant depends on


def test_p_values_are_those_of_the_chi_square_law():
    """By scipy, on ranks that are not uniform; and of uniform ranks as often below a level as it says."""
    rng = np.random.default_rng(0)
    ranks = np.minimum(rng.integers(0, 80, 300), 63)
    counts = np.histogram(ranks, 8, (0, 64))[0]
    one = Calibration({"z": jnp.asarray(ranks)}, 63)
    np.testing.assert_array_equal(one.histograms()["z"], counts)
    from scipy.stats import chisquare

    np.testing.assert_allclose(float(one.p_values()["z"]), chisquare(counts).pvalue, rtol=1e-3)
    many = Calibration({"z": jnp.asarray(rng.integers(0, 64, (400, 1000)))}, 63)
    share = np.mean(np.asarray(many.p_values()["z"]) < 0.1)
    assert abs(share - 0.1) < 4.5 * np.sqrt(0.09 / 1000)
    assert many.p_value() > LEVEL


def test_mistakes_are_named():
    with pytest.raises(RecipeError, match="do not fill 10 equal bins; expected a divisor of 64"):
        Calibration({"z": jnp.zeros(10, jnp.int32)}, 63).p_value(10)
    with pytest.raises(ProgramError, match="look at some rows of rows"):
        calibration(KEY, trace_observed(Rows(), rows=1), Rows())
