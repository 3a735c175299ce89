"""Masks: honoured on data and in a NumPyro posterior, refused on latents that they would leave flat."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.scipy.stats import norm

import pplemd as em
from pplemd.dsl import trace, trace_observed
from pplemd.errors import ProgramError

SEEN = np.array([True, False, True])


class Masked(em.Program):
    """A latent under some law, and data given it."""

    law: object

    def __call__(self):
        m = em.latent("m", self.law(jnp.zeros(3)))
        em.observe("y", dist.Normal(jnp.sum(m) * jnp.ones(3), 1.0), np.array([4.0, 5.0, 6.0]))


class UnderHandler(em.Program):
    """The handler around both, where the observation alone was meant."""

    def __call__(self):
        with numpyro.handlers.mask(mask=SEEN):
            m = em.latent("m", dist.Normal(jnp.zeros(3), 1.0))
            em.observe("y", dist.Normal(m, 1.0), np.array([4.0, 5.0, 6.0]))


@pytest.mark.parametrize(
    "law",
    [
        lambda zero: dist.Normal(0.0, 1.0).mask(False),
        lambda zero: dist.Normal(zero, 1.0).mask(SEEN),
        lambda zero: dist.Normal(zero, 1.0).mask(jnp.asarray(SEEN)).to_event(1),
        lambda zero: dist.Normal(0.0, 1.0).mask(False).expand([3]),
        lambda zero: dist.TransformedDistribution(dist.Normal(zero, 1.0).mask(SEEN), dist.transforms.ExpTransform()),
        lambda zero: dist.Gamma(zero + 1.0, 1.0).mask(zero > 1),
        lambda zero: dist.Dirichlet(zero + 1.0).mask(False),
    ],
)
def test_a_latent_is_not_left_flat(law):
    with pytest.raises(ProgramError, match="latent 'm' is masked .*flat latent cannot be drawn.*mask the observation"):
        trace_observed(Masked(law))


def test_nor_by_a_handler_nor_where_a_teacher_takes_the_place_of_data():
    with pytest.raises(ProgramError, match="test_masks.py.*latent 'm' is masked in part"):
        trace_observed(UnderHandler())

    class Student(em.Program):
        weight: jax.Array

        def __call__(self):
            return em.generate("x", self.weight * em.latent("z", dist.Normal(jnp.zeros(2), 1.0).mask(False)))

    with pytest.raises(ProgramError, match="latent 'z' is masked wholly"):
        trace(Student(jnp.ones(())), shape=(2,))


def test_a_mask_that_leaves_nothing_out_is_none():
    for mask in (True, np.ones(3, bool)):
        program = Masked(lambda zero, mask=mask: dist.Normal(zero, 2.0).mask(mask).to_event(1))
        problem = trace_observed(program)
        z = {"m": jnp.array([1.0, -2.0, 0.5])}
        np.testing.assert_allclose(problem.log_prior(program, z), norm.logpdf(z["m"], 0, 2.0).sum(), rtol=1e-6)


def imputing(y, seen):
    m = numpyro.sample("m", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(m * jnp.ones(3), 0.5), obs=y, obs_mask=seen)


Y = np.array([1.0, 2.0, 3.0])


def expected(m, rest):
    """With what was seen given, and everything imputed drawn from its whole law, seen or not: that integrates to 1."""
    return norm.logpdf(m) + norm.logpdf(Y[SEEN], m, 0.5).sum() + norm.logpdf(rest, m, 0.5).sum()


@pytest.mark.slow
def test_what_obs_mask_imputes_is_drawn_from_its_law():
    class Imputing(em.Program):
        def __call__(self):
            imputing(Y, SEEN)

    problem, z = trace_observed(Imputing()), {"m": jnp.array(0.3), "y_unobserved": jnp.array([0.1, -0.2, 0.4])}
    u = {"m": z["m"], "y_unobserved": (z["y_unobserved"] - z["m"]) / 0.5}
    found = problem.log_prior(Imputing(), z) + problem.log_likelihood(Imputing(), u)
    np.testing.assert_allclose(found, expected(z["m"], z["y_unobserved"]), rtol=1e-5)
    teacher = em.posterior(imputing, Y, SEEN, centered=True)
    x = jnp.concatenate([z["m"][None], z["y_unobserved"]])
    np.testing.assert_allclose(teacher.log_q(x), expected(z["m"], z["y_unobserved"]), rtol=1e-5)
    np.testing.assert_allclose(teacher.constrain(x)["y"], [1.0, -0.2, 3.0], rtol=1e-6)


def test_a_posterior_has_the_density_that_masks_and_scales_leave():
    def model(y):
        m = numpyro.sample("m", dist.Normal(0.0, 1.0).mask(False))
        with numpyro.handlers.scale(scale=3.0):
            numpyro.sample("y", dist.Normal(m * jnp.ones(3), 1.0).mask(SEEN).to_event(1), obs=y)

    teacher = em.posterior(model, np.array([4.0, np.nan, 6.0]))
    np.testing.assert_allclose(teacher.log_q(jnp.array([4.5])), 3 * norm.logpdf(jnp.array([4.0, 6.0]), 4.5).sum(), 1e-6)
    np.testing.assert_allclose(jax.grad(teacher.log_q)(jnp.array([5.0])), [0.0], atol=1e-5)  # its mode: data's mean
