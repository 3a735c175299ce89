"""Draws of a fit whose data, or some of them, cannot be simulated: its latents are kept, and the reason is told."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.dsl import trace_observed
from pplemd.errors import ProgramError
from pplemd.report.progress import Silent
from pplemd.tasks.fit_results import draw_posterior, save_posterior
from pplemd.tasks.results import Fitted


class Totals(em.Program):
    """Totals are given as floats, which NumPyro scores but does not draw by."""

    mean: jax.Array
    both: bool

    def __call__(self):
        m = em.latent("m", dist.Normal(self.mean, 1.0).expand([2]))
        em.observe("y", dist.Binomial(np.array([5.0, 6.0], np.float32), logits=m), np.array([1, 2]))
        if self.both:
            em.observe("z", dist.Normal(m, 1.0), np.zeros(2, np.float32))


def fitted(both):
    program = Totals(jnp.zeros(()), both)
    problem = trace_observed(program)
    return Fitted(problem, program, problem.centering(0.0))


class Says(Silent):
    def __init__(self):
        self.said = []

    def say(self, sentence):
        self.said.append(sentence)


@pytest.mark.slow
@pytest.mark.parametrize("both", [True, False])
def test_latents_are_kept_where_data_cannot_be_simulated(both, tmp_path):
    reporter, diagnostics = Says(), em.Diagnostics(em.HMC(0.5, 2), chains=2, warm_up=20, draws=20)
    drawn = draw_posterior(fitted(both), diagnostics, 20, 0, reporter)
    assert drawn.posterior["m"].shape == (2, 10, 2)
    assert set(drawn.prior_predictive) == ({"z"} if both else set())
    (sentence,) = reporter.said
    assert "data of observation 'y' cannot be simulated: BinomialLogits raised TypeError" in sentence
    assert "test_fit_drawing.py, line" in sentence
    save_posterior(tmp_path / "x.npz", drawn, 3)
    with np.load(tmp_path / "x.npz") as arrays:
        assert set(arrays.files) == ({"m", "prior_predictive.z"} if both else {"m"})
    save_posterior(tmp_path / "x.nc", drawn, 3)
    import xarray

    with xarray.open_dataset(tmp_path / "x.nc", group="posterior", engine="h5netcdf") as data:
        assert data["m"].shape == (2, 10, 2)
        assert "cannot be simulated" in data.attrs["not_simulated.y"]


def test_what_cannot_be_drawn_from_is_named():
    one = fitted(True)
    assert list(one.unsimulated()) == ["y"]
    assert set(one.simulate(jax.random.key(0), 3, ("y",))) == {"z"}
    with pytest.raises(ProgramError, match="data of observation 'y' cannot be simulated"):
        one.simulate(jax.random.key(0), 3)
