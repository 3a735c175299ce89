"""A fit in Python: stopped and resumed bit for bit, and held to what it was started with."""

import os
import signal
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.errors import CheckpointError, ProgramError, RecipeError
from pplemd.learning import Interrupted
from pplemd.report.progress import AbstractReporter, SilentProgress

pytestmark = pytest.mark.slow

Y = np.array([1.1, -0.4, 0.8, 2.0], np.float32)


class Levels(em.Program):
    mean: jax.Array
    y: np.ndarray

    def __call__(self):
        theta = em.latent("theta", dist.Normal(self.mean, 1.0).expand([4]))
        em.observe("y", dist.Normal(theta, 0.2), self.y)


def declared(y=Y, average=0.99):
    algorithm = em.MonteCarloEM(
        chains=4,
        chain=em.Chain(em.HMC(leapfrogs=3), 1, em.Cancellation.NONE),
        reparameterization=em.Reparameterization(every=4, rounds=30, policy=em.Policy(em.Fisher(steps=20))),
        average=average,
    )
    training = em.Training(steps=12, log_every=3, sample_every=6, checkpoint_every=5)
    diagnostics = em.Diagnostics(em.HMC(leapfrogs=3), chains=2, warm_up=50, draws=50, marginal=50)
    return em.Fit(lambda key: Levels(jnp.zeros(()), y), {}, algorithm, training, diagnostics)


class StopsAt(AbstractReporter):
    """Sends SIGTERM when the loop has done so many steps."""

    def __init__(self, step):
        self.step = step

    def say(self, sentence):
        """Nothing."""

    @contextmanager
    def progress(self, title, total, shown=()):
        at = self.step

        class Task(SilentProgress):
            def to(self, done):
                if title == "fit" and done == at:
                    os.kill(os.getpid(), signal.SIGTERM)

        yield Task()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit") / "whole"
    return em.fit(declared(), folder, reporter=em.Silent())


def test_what_is_wrong_with_the_chains_is_in_the_report(whole):
    """Two chains of 50 draws are not worth 200."""
    assert {"ess_bulk", "ess_tail"} & {one.about for one in whole.report.findings}


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_bit_for_bit(whole, tmp_path):
    with pytest.raises(Interrupted, match="after step 7"):
        em.fit(declared(), tmp_path / "run", reporter=StopsAt(7))
    again = em.fit(declared(), tmp_path / "run", resume=True, reporter=em.Silent())
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (whole.folder / "metrics.jsonl").read_bytes()
    assert again.report == whole.report
    np.testing.assert_array_equal(again.result.program.mean, whole.result.program.mean)


def test_a_run_is_held_to_its_data_and_recipe(whole):
    with pytest.raises(CheckpointError, match="the data has changed"):
        em.fit(declared(Y + 1), whole.folder, resume=True, reporter=em.Silent())
    with pytest.raises(CheckpointError, match="the algorithm has changed"):
        em.fit(declared(average=0.5), whole.folder, resume=True, reporter=em.Silent())
    with pytest.raises(CheckpointError, match="holds a run already"):
        em.fit(declared(), whole.folder, reporter=em.Silent())


def test_recipes_are_changed_by_name():
    with pytest.raises(RecipeError, match="has no field 'rows'"):
        em.fit(declared(), "nowhere", overrides=("training.rows=3",), reporter=em.Silent())


def test_what_is_no_fit_is_refused():
    with pytest.raises(ProgramError, match="the fit's `program` is the class Levels; expected a function"):
        em.Fit(Levels)
    with pytest.raises(ProgramError, match="the fit's `program` built a float"):
        em.fit(em.Fit(lambda key: 1.0), "nowhere", reporter=em.Silent())


def test_a_program_that_observes_nothing_is_refused():
    class Nothing(em.Program):
        mean: jax.Array

        def __call__(self):
            em.latent("theta", dist.Normal(self.mean, 1.0))

    with pytest.raises(ProgramError, match="the program observes nothing"):
        em.fit(em.Fit(lambda key: Nothing(jnp.zeros(()))), "nowhere", reporter=em.Silent())
