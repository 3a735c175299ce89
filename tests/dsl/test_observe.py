"""Observations and plates: what the trace records, and the densities and draws that it yields."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.scipy.stats import norm, poisson

from pplemd.dsl import Program, generate, latent, observe, plate, trace, trace_observed
from pplemd.errors import ProgramError

KEY = jax.random.key(0)
Y = jnp.asarray([28.0, 8.0, -3.0, 7.0])
ERROR = jnp.asarray([15.0, 10.0, 16.0, 11.0])


class Schools(Program):
    """theta_j ~ N(mu, tau), y_j ~ N(theta_j, error_j); mu ~ N(0, 5)."""

    tau: jax.Array

    def __call__(self):
        mu = latent("mu", dist.Normal(0.0, 5.0))
        with plate("schools", 4) as rows:
            theta = latent("theta", dist.Normal(mu, self.tau))
            observe("y", dist.Normal(theta, ERROR[rows]), Y[rows])


class Counts(Program):
    """Rows of their own: z_i ~ N(0, I), n_i ~ Poisson(exp(w . z_i)); x is drawn from a fresh z."""

    w: jax.Array

    def __call__(self):
        with plate("rows", 6) as rows:
            z = latent("z", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
            observe("n", dist.Poisson(jnp.exp(z @ self.w)), COUNTS[rows])
        return generate("x", z @ self.w)


COUNTS = jnp.asarray([0, 3, 1, 2, 0, 5])
SCHOOLS, COUNTED = Schools(jnp.asarray(3.0)), Counts(jnp.asarray([0.5, -0.2]))


class Missing(Program):
    """Schools of which some were not seen."""

    tau: jax.Array
    by_handler: bool = eqx.field(static=True)
    absent: float = eqx.field(static=True)

    def __call__(self):
        theta = latent("theta", dist.Normal(jnp.zeros(4), self.tau))
        law = dist.Normal(theta, ERROR)
        if self.by_handler:
            with numpyro.handlers.mask(mask=PRESENT):
                observe("y", law, np.where(PRESENT, Y, self.absent))
        else:
            observe("y", law.mask(PRESENT).to_event(1), np.where(PRESENT, Y, self.absent))


PRESENT = np.asarray([True, False, True, False])


@pytest.mark.slow_for("False-10000.0")
@pytest.mark.parametrize("absent", [1e4, float("nan")])
@pytest.mark.parametrize("by_handler", [False, True])
def test_what_a_mask_leaves_out_is_not_looked_at(by_handler, absent):
    program = Missing(jnp.asarray(3.0), by_handler, absent)
    problem = trace_observed(program)
    assert problem.observed[0].family == "Normal"
    u = problem.draw(KEY, program)
    theta = problem.latents(program, u)["theta"]
    expected = np.where(PRESENT, norm.logpdf(Y, theta, ERROR), 0.0).sum()
    np.testing.assert_allclose(problem.log_likelihood(program, u), expected, rtol=1e-5)
    slope = jax.grad(lambda u: problem.log_likelihood(program, u))(u)["theta"]
    np.testing.assert_array_equal(slope == 0, ~np.asarray(PRESENT))
    assert problem.simulate(KEY, program, u)["y"].shape == (4,)


def test_what_the_trace_records():
    problem = trace_observed(SCHOOLS)
    (one,) = problem.observed
    assert (one.name, one.shape, one.family, one.parents, one.learned) == ("y", (4,), "Normal", ("theta",), False)
    assert one.plates == ("schools",)
    assert [(site.name, site.shape, site.plates) for site in problem.sites] == [
        ("mu", (), ()),
        ("theta", (4,), ("schools",)),
    ]
    assert problem.sites[1].eligible
    assert [(p.name, p.size, p.rows) for p in problem.plates] == [("schools", 4, 4)]
    assert problem.generated is None
    with pytest.raises(ProgramError, match="Schools generates nothing"):
        _ = problem.output


def test_log_likelihood_is_that_of_the_data():
    problem = trace_observed(SCHOOLS)
    u = problem.draw(KEY, SCHOOLS)
    theta = problem.latents(SCHOOLS, u)["theta"]
    np.testing.assert_allclose(theta, 5.0 * u["mu"] + 3.0 * u["theta"], rtol=1e-5)
    expected = norm.logpdf(Y, theta, ERROR)
    np.testing.assert_allclose(problem.log_likelihoods(SCHOOLS, u)["y"], expected, rtol=1e-5)
    np.testing.assert_allclose(problem.log_likelihood(SCHOOLS, u), expected.sum(), rtol=1e-5)
    other = problem.given({"y": Y + 1})
    np.testing.assert_allclose(other.log_likelihood(SCHOOLS, u), norm.logpdf(Y + 1, theta, ERROR).sum(), rtol=1e-5)


def test_numpyros_own_words_serve_as_well():
    class Same(Program):
        tau: jax.Array

        def __call__(self):
            mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
            with numpyro.plate("schools", 4):
                theta = numpyro.sample("theta", dist.Normal(mu, self.tau))
                numpyro.sample("y", dist.Normal(theta, ERROR), obs=Y)
            numpyro.factor("tilt", -mu)

    program = Same(jnp.asarray(3.0))
    problem, known = trace_observed(program), trace_observed(SCHOOLS)
    u = problem.draw(KEY, program)
    expected = known.log_likelihood(SCHOOLS, u) - 5.0 * u["mu"]
    np.testing.assert_allclose(problem.log_likelihood(program, u), expected, rtol=1e-5)


@pytest.mark.slow
def test_simulated_data_follow_the_law():
    problem = trace_observed(COUNTED)
    u = problem.draw(KEY, COUNTED)
    drawn = jax.vmap(lambda k: problem.simulate(k, COUNTED, u)["n"])(jax.random.split(KEY, 4000))
    assert drawn.dtype == COUNTS.dtype
    rate = np.exp(np.asarray(u["z"] @ COUNTED.w))
    assert np.all(np.abs(drawn.mean(axis=0) - rate) < 4 * np.sqrt(rate / 4000))


def test_simulated_data_of_a_real_law_are_real():
    """Whole numbers that were observed are fractions of the law all the same."""

    class Whole(Program):
        mean: jax.Array

        def __call__(self):
            z = latent("z", dist.Normal(0.0, 1.0))
            observe("y", dist.Normal(jnp.full(3, self.mean + z), 0.5), np.array([3, -1, 2]))

    program = Whole(jnp.asarray(0.7))
    problem = trace_observed(program)
    drawn = jax.vmap(lambda k: problem.simulate(k, program, {"z": jnp.zeros(())})["y"])(jax.random.split(KEY, 2000))
    assert drawn.mean() == pytest.approx(0.7, abs=4 * 0.5 / np.sqrt(6000))
    assert drawn.std() == pytest.approx(0.5, rel=0.05)


@pytest.mark.slow
def test_rows_are_looked_at_alone():
    whole, single = trace_observed(COUNTED), trace_observed(COUNTED, rows=1)
    assert [(p.name, p.size, p.rows) for p in single.plates] == [("rows", 6, 1)]
    assert single.sites[0].shape == (1, 2)
    u = whole.draw(KEY, COUNTED)
    expected = poisson.logpmf(COUNTS.astype(jnp.float32), jnp.exp(u["z"] @ COUNTED.w))
    np.testing.assert_allclose(whole.log_likelihoods(COUNTED, u)["n"], expected, rtol=1e-5)

    @eqx.debug.assert_max_traces(max_traces=1)
    def row(number):
        return single.at({"rows": number[None]}).log_likelihood(COUNTED, {"z": u["z"][number][None]})

    np.testing.assert_allclose(jax.vmap(row)(jnp.arange(6)), expected, rtol=1e-5)
    with pytest.raises(ProgramError, match="traced for 1 rows of the plate 'rows'.*none.*problem.at"):
        single.log_likelihood(COUNTED, {"z": u["z"][:1]})


def test_the_likelihood_is_differentiable_in_program_and_latents():
    problem = trace_observed(COUNTED)
    u = problem.draw(KEY, COUNTED)

    def by_hand(w, z):
        return jnp.sum(poisson.logpmf(COUNTS.astype(jnp.float32), jnp.exp(z @ w)))

    found = jax.grad(lambda p, u: problem.log_likelihood(p, u), argnums=(0, 1))(COUNTED, u)
    expected = jax.grad(by_hand, argnums=(0, 1))(COUNTED.w, u["z"])
    np.testing.assert_allclose(found[0].w, expected[0], rtol=1e-4)
    np.testing.assert_allclose(found[1]["z"], expected[1], rtol=1e-4, atol=1e-5)


MISSING = Y.at[2].set(jnp.nan)
COLUMN = MISSING[:, None]


def refused(call, words):
    class Bad(Program):
        tau: jax.Array

        def __call__(self):
            return call(self)

    with pytest.raises(ProgramError, match=words):
        trace_observed(Bad(jnp.ones(())))


def test_mistakes_are_told():
    def shaped(self):
        observe("y", dist.Normal(latent("mu", dist.Normal(0.0, 1.0)), ERROR), Y[:3])

    def infinite(self):
        observe("y", dist.Normal(latent("mu", dist.Normal(0.0, 1.0)), ERROR), MISSING)

    def infinite_in_numpy(self):
        observe("y", dist.Normal(latent("mu", dist.Normal(0.0, 1.0)), ERROR), np.asarray(MISSING))

    def infinite_where_seen(self):
        law = dist.Normal(latent("mu", dist.Normal(0.0, 1.0)) * jnp.ones((4, 1)), jnp.ones((4, 1))).to_event(1)
        observe("y", law.mask(PRESENT), COLUMN)

    def weighted(self):
        mu = latent("mu", dist.Normal(0.0, 1.0))
        with numpyro.handlers.scale(scale=0.5):
            observe("y", dist.Normal(mu, ERROR), Y)

    def nothing(self):
        latent("mu", dist.Normal(0.0, 1.0))

    def known(self):
        observe("y", dist.Normal(0.0, ERROR), Y)

    def twice(self):
        mu = latent("y", dist.Normal(0.0, 1.0))
        observe("y", dist.Normal(mu, ERROR), Y)

    def no_law(self):
        observe("y", latent("mu", dist.Normal(0.0, 1.0)), Y)

    def no_size(self):
        with plate("rows", 0):
            pass

    refused(shaped, r"data of shape \(3,\); its Normal is of shape \(4,\)")
    refused(infinite, r"1 of 4 values that are not finite \(the first at \(2,\)\)")
    refused(infinite_where_seen, r"1 of 4 values that are not finite \(the first at \(2, 0\)\)")
    refused(infinite_in_numpy, "1 of 4 values that are not finite")
    refused(weighted, r"'y' stands under numpyro.handlers.scale, which weights its log-density by 0.5")
    refused(nothing, "observes nothing")
    refused(known, "no latent")
    refused(twice, "two sites are called 'y'")
    refused(no_law, "expected a NumPyro distribution|typechecking parameter 'distribution'")
    refused(no_size, "expected a positive integer")


def test_a_minibatch_has_no_posterior_of_what_rows_share():
    with pytest.raises(ProgramError, match="latent 'mu' has shape .*no posterior of what all rows share"):
        trace_observed(SCHOOLS, rows=2)


def test_a_teacher_takes_the_place_of_data():
    with pytest.raises(ProgramError, match="site 'n' is observed; expected latents only"):
        trace(COUNTED, shape=(6,))
    with pytest.raises(ProgramError, match="called outside of a trace"):
        observe("y", dist.Normal(0.0, 1.0), Y)
    with pytest.raises(ProgramError, match="called outside of a trace"), plate("rows", 3):
        pass
