"""Draws and scores carried to other coordinates are those that the law itself gives there."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from known_hierarchies import gaussian, hierarchy

from pplemd.dsl import Program, generate, latent, observe, trace, trace_observed
from pplemd.errors import RecipeError
from pplemd.inference import NUTS, posterior_target
from pplemd.parameterization import Change, Length, Placement, trial


@pytest.mark.slow
@pytest.mark.slow_for("two")
@pytest.mark.parametrize(
    "known", [gaussian([0.3, 1.0], draws=50), hierarchy(0.7, draws=50, count=3)], ids=["one", "two"]
)
def test_scores_in_other_coordinates_are_the_laws(known):
    lam = known.placement.problem.centering(0.7, 0.4)
    v, score = known.pilot.along(known.placement, lam)
    law, change = known.placement.target(known.law, lam), Change(known.placement, lam)

    def direct(u):
        there = change.inverse(u)
        return jax.flatten_util.ravel_pytree(there)[0], jax.flatten_util.ravel_pytree(law.score(there))[0]

    expected_v, expected_score = jax.vmap(direct)(known.pilot.u)
    np.testing.assert_allclose(v, expected_v, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(score, expected_score, rtol=2e-3, atol=2e-3)


def test_a_program_without_such_sites_is_named():
    class Plain(Program):
        scale: jax.Array

        def __call__(self):
            return generate("x", self.scale * latent("z", dist.Normal(jnp.zeros(2), 1.0)))

    program = Plain(jnp.asarray(2.0))
    with pytest.raises(RecipeError, match="Plain has no site that can be centered"):
        Placement(trace(program, shape=(2,)), program)


@pytest.mark.slow
def test_a_trial_leaves_out_what_is_one_number_by_law():
    """The upper triangle of a Cholesky factor never moves, and says nothing of how chains mix."""

    class Correlated(Program):
        scale: jax.Array

        def __call__(self):
            factor = latent("factor", dist.LKJCholesky(2, 2.0))
            theta = latent("theta", dist.Normal(jnp.zeros(2), self.scale))
            observe("y", dist.MultivariateNormal(theta, scale_tril=factor), jnp.array([0.3, -0.2]))

    program = Correlated(jnp.asarray(1.0))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # NumPyro's factors rely on both
        problem = trace_observed(program)
        placement = Placement(problem, program)
        made = trial(
            jax.random.key(0), placement, posterior_target(problem, program), NUTS(), problem.centering(0.0), Length()
        )
    assert float(made.r_hat) < 1.1
    assert float(made.ess) > 40
