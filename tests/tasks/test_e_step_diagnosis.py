"""Long chains of a run's E-step in Python: the law they sample, the sigmas, the picture's correction."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import pplemd as em
from pplemd.algorithms import EMD, DistillationContext
from pplemd.diagnosis import table
from pplemd.errors import RecipeError
from pplemd.inference import HMC, Coordinates, Student
from pplemd.learning import Step, Training
from pplemd.tasks.base import ChainOptions
from pplemd.tasks.e_step_diagnosis import Law, corrections, recorded, typical_sigmas

SLOPE, TEACHER_SD, SIGMA = 0.5, 1.0, 0.7


class Line(em.Program):
    """x = slope z."""

    slope: jax.Array

    def __call__(self):
        eps = em.latent("eps", dist.Normal(jnp.zeros(1), 1.0))  # a name that the noise has already
        return em.generate("x", self.slope * eps)


def normal(sd):
    """N(0, sd^2) by its score."""
    return em.teachers.ScoreFunction(lambda x, sigma: -x / (sd**2 + sigma**2), (1,))


MODEL = em.Model(
    program=lambda teacher, key: Line(jnp.asarray(SLOPE)),
    teacher=normal(TEACHER_SD),
    networks={
        "score": lambda key: em.Denoiser(em.networks.ResidualMLP((1,), width=4, blocks=1, key=key), sigma_data=0.5)
    },
    algorithm=em.EMD(chain=em.Chain(em.Langevin(0.2), length=40)),
)


def law(held=None):
    planned = MODEL.plan()
    return Law(MODEL.teacher, Student(planned.problem, Line(jnp.asarray(SLOPE)), normal(SLOPE)), None, held)


@pytest.fixture(scope="module")
def chains():
    kernel = HMC(step_size=0.6, leapfrogs=3)
    run = law().chains(jax.random.key(0), jnp.asarray(SIGMA), kernel, (4, 50, 1500))
    return recorded(SIGMA, run)


def test_the_chains_sample_the_tilted_law(chains):
    """rho(eps, z) = q(x_sigma) p(eps, z | x_sigma): where x_sigma is the teacher's, and the rest of p's posterior."""
    assert set(chains.draws) == {"eps", "eps_"}
    rows = table([chains])
    assert max(row.r_hat for row in rows) < 1.02
    eps, z = chains.draws["eps"][..., 0], chains.draws["eps_"][..., 0]
    x = SLOPE * z + SIGMA * eps
    (row,) = table([dataclasses.replace(chains, draws={"square": x**2})])
    assert row.ess_bulk > 1000
    assert np.mean(x**2) == pytest.approx(TEACHER_SD**2 + SIGMA**2, abs=4 * row.mcse_mean)
    prior = SLOPE**2 + SIGMA**2
    gain = SLOPE / prior  # E[z | x_sigma] = gain x_sigma under the student
    expected = gain**2 * (TEACHER_SD**2 + SIGMA**2) + SIGMA**2 / prior
    (row,) = table([dataclasses.replace(chains, draws={"square": z**2})])
    assert np.mean(z**2) == pytest.approx(expected, abs=4 * row.mcse_mean)


def test_gradients_are_counted_for_each_chain(chains):
    assert chains.gradients == 1500 * 3 * 2  # leapfrogs, each with Simpson's midpoint


def test_frozen_latents_do_not_move():
    run = law(held={"eps": jnp.ones(1)}).chains(
        jax.random.key(0), jnp.asarray(SIGMA), HMC(Coordinates(0.5, None)), (2, 5, 8)
    )
    assert set(recorded(SIGMA, run).draws) == {"eps"}


def test_typical_sigmas_cut_the_law_of_training_into_equal_parts():
    found = typical_sigmas(em.LogUniform(0.1, 10.0))
    # the s.d. of a quantile's share is at most 0.5 / sqrt(10,000), of 4.6 in log sigma
    np.testing.assert_allclose(np.log(found), np.log(0.1) + np.log(100) * np.array([1, 3, 5, 7]) / 8, atol=0.1)
    end = typical_sigmas(em.CoarseToFine(start=(1.0, 6.0), end=(0.1, 0.2)))
    assert 0.1 < min(end) < max(end) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
def test_the_correction_pulls_samples_to_the_teacher(frozen):
    planned = MODEL.plan()
    algorithm = EMD(chain=em.Chain(em.Langevin(0.2), 40, em.Cancellation.NONE), move_latents=not frozen)
    context = DistillationContext(Training(), planned.problem, MODEL.teacher)
    program = Line(jnp.asarray(SLOPE))
    state = Step(context, algorithm).init({"generator": program, "score": MODEL.networks["score"](jax.random.key(0))})
    known = dataclasses.replace(state.learners["score"], module=normal(SLOPE))
    exact = dataclasses.replace(state, learners={**state.learners, "score": known})
    pairs = corrections(context, algorithm, exact, (2.0, SIGMA), jax.random.key(0))
    assert list(pairs) == ["sigma = 0.7", "sigma = 2"]
    for before, after in pairs.values():
        assert before.shape == after.shape == (500, 1)
        # a variance's relative s.d. is sqrt(2 / 500) = 6 %
        assert np.var(before) == pytest.approx(SLOPE**2, rel=0.26)
    before, after = pairs["sigma = 0.7"]
    assert np.var(after) > 1.3 * np.var(before)  # the teacher is four times as wide
    many = dataclasses.replace(context, training=Training(batch=512, microbatches=128))
    parts = corrections(many, algorithm, exact, (2.0, SIGMA), jax.random.key(0))
    np.testing.assert_allclose(
        parts["sigma = 0.7"][0], before, rtol=1e-5
    )  # in microbatches that divide its own samples
    coupled = dataclasses.replace(context, teacher=normal(SLOPE))
    same = corrections(coupled, algorithm, exact, (SIGMA,), jax.random.key(0))
    np.testing.assert_allclose(*same["sigma = 0.7"], atol=1e-5)  # student = teacher: nothing to correct


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sigmas": (0.5, -1.0)}, "positive, finite"),
        ({"sigmas": (0.5, 0.5)}, "each once"),
        ({"sigmas": (float("inf"),)}, "positive, finite"),
        ({"chains": 1}, "at least 2 chains"),
        ({"draws": 3}, "4 draws"),
    ],
)
def test_what_cannot_be_run_is_refused(fields, message):
    with pytest.raises(RecipeError, match=message):
        ChainOptions(**fields)
