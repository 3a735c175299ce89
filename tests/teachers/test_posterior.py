"""NumPyro models as teachers: exact densities in unconstrained coordinates, the model's names, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

import pplemd as em
from pplemd.errors import TeacherError
from pplemd.teachers import check

Y, S = np.array([28.0, 8.0, -3.0]), np.array([15.0, 10.0, 16.0])


def schools(s, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", len(s)):
        raw = numpyro.sample("raw", dist.Normal(0, 1))
        theta = numpyro.deterministic("theta", mu + tau * raw)
        numpyro.sample("y", dist.Normal(theta, s), obs=y)


def by_hand(mu, log_tau, raw):
    """Log joint of the model, from SciPy; d tau / d log tau = tau."""
    tau = np.exp(log_tau)
    terms = [stats.norm.logpdf(mu, 0, 5), stats.halfcauchy.logpdf(tau, 0, 5), log_tau]
    return sum(terms) + stats.norm.logpdf(raw).sum() + stats.norm.logpdf(Y, mu + tau * raw, S).sum()


TEACHER = em.posterior(schools, S, y=Y)


def test_density_is_the_joint_with_its_log_determinant():
    check(TEACHER)
    assert TEACHER.sites == (("mu", ()), ("raw", (3,)), ("tau", ()))
    assert TEACHER.shape == (5,)
    x = 1.5 * jax.random.normal(jax.random.key(0), (20, 5))
    found = jax.jit(jax.vmap(TEACHER.log_q))(x)
    expected = [by_hand(row[0], row[4], row[1:4]) for row in np.asarray(x, np.float64)]
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_values_come_by_the_model_s_own_names():
    x = jax.random.normal(jax.random.key(1), (7, 5))
    values = TEACHER.constrained(x)
    assert {name: value.shape for name, value in values.items()} == {
        "mu": (7,), "raw": (7, 3), "tau": (7,), "theta": (7, 3),
    }  # fmt: skip
    np.testing.assert_allclose(values["tau"], np.exp(x[:, 4]), rtol=1e-6)
    np.testing.assert_allclose(values["theta"], x[:, :1] + np.exp(x[:, 4:]) * x[:, 1:4], rtol=1e-5, atol=1e-6)
    with pytest.raises(TeacherError, match=r"expected \(n, 5\)"):
        TEACHER.constrained(x[0])


def supports(y):
    """One latent of each kind of support; the last one's depends on another."""
    low = numpyro.sample("low", dist.LogNormal(0.3, 0.7))
    numpyro.sample("share", dist.Beta(2.0, 3.0))
    numpyro.sample("parts", dist.Dirichlet(jnp.array([1.0, 2.0, 3.0])))
    numpyro.sample("ordered", dist.TransformedDistribution(dist.Normal(0, 1).expand([3]).to_event(1),
                                                           dist.transforms.OrderedTransform()))  # fmt: skip
    high = numpyro.sample("high", dist.Uniform(low, low + 2.0))
    numpyro.sample("y", dist.Normal(high, 1.0), obs=y)


@pytest.mark.slow
def test_every_support_has_its_log_determinant_by_automatic_differentiation():
    teacher = em.posterior(supports, 1.3)
    x = jax.random.normal(jax.random.key(2), teacher.shape)
    assert [name for name, _ in teacher.sites] == ["high", "low", "ordered", "parts", "share"]

    def free(x):
        """As many free constrained numbers as x has: a point of the simplex has one less than it shows."""
        v = teacher.constrain(x)
        return jnp.concatenate([v["high"][None], v["low"][None], v["ordered"], v["parts"][:-1], v["share"][None]])

    v = {name: np.asarray(value, np.float64) for name, value in teacher.constrain(x).items()}
    plain = np.concatenate([v["ordered"][:1], np.log(np.diff(v["ordered"]))])
    expected = (
        stats.lognorm.logpdf(v["low"], 0.7, scale=np.exp(0.3))
        + stats.beta.logpdf(v["share"], 2, 3)
        + stats.dirichlet.logpdf(v["parts"] / v["parts"].sum(), [1, 2, 3])
        + stats.norm.logpdf(plain).sum()
        - plain[1:].sum()  # the ordered vector's own density: that of its base by its Jacobian
        + stats.uniform.logpdf(v["high"], v["low"], 2.0)
        + stats.norm.logpdf(1.3, v["high"], 1.0)
        + np.linalg.slogdet(np.asarray(jax.jacobian(free)(x), np.float64))[1]
    )
    np.testing.assert_allclose(teacher.log_q(x), expected, rtol=1e-4)


def test_the_score_is_the_gradient_and_runs_no_handler(monkeypatch):
    calls = []

    def model(y):
        calls.append(1)
        numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal(0, 1)), 1), obs=y)

    teacher = dataclasses.replace(em.posterior(model, 2.0), noised=em.teachers.Unnoised())
    traced = len(calls)
    found = teacher.score(jnp.array([0.3]), jnp.asarray(0.1))
    np.testing.assert_allclose(found, [-0.3 + (2.0 - 0.3)], rtol=1e-6)
    assert len(calls) == traced
    assert np.isfinite(teacher.log_q(teacher.start))


def test_a_gaussian_posterior_is_noised_exactly():
    def model(y):
        numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal(0, 1)), 0.5), obs=y)

    teacher, x, sigma = em.posterior(model, 1.0), jnp.array([-0.4]), 0.8
    precision = 1 + 1 / 0.25
    expected = (0.8 - x) / (1 / precision + sigma**2)  # posterior mean 1 / .25 / precision = .8
    np.testing.assert_allclose(teacher.score(x, jnp.asarray(sigma)), expected, rtol=1e-5)


def nothing(y):
    numpyro.sample("y", dist.Normal(0, 1), obs=y)


def discrete(y):
    numpyro.sample("y", dist.Normal(numpyro.sample("k", dist.Poisson(2.0)), 1), obs=y)


def point(y):
    numpyro.sample("y", dist.Normal(numpyro.sample("at", dist.Delta(2.0)), 1), obs=y)


def parameter(y):
    numpyro.sample("y", dist.Normal(numpyro.param("loc", 0.0), numpyro.sample("s", dist.HalfNormal(1))), obs=y)


def subsampled(y):
    z = numpyro.sample("z", dist.Normal(0, 1))
    with numpyro.plate("data", 10, subsample_size=2):
        numpyro.sample("y", dist.Normal(z, 1), obs=y)


def impossible(y):
    numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal(0, 1)), 1.0), obs=y * np.nan)


def nowhere(y):
    numpyro.factor("y", numpyro.sample("z", dist.Normal(0, 1)) - np.inf)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (nothing, (1.0,), "has no latent"),
        (discrete, (1.0,), "'k' of the model discrete has the discrete distribution Poisson"),
        (point, (1.0,), "point mass"),
        (parameter, (1.0,), "'loc'"),
        (subsampled, (np.zeros(2),), "2 of 10 data at random"),
        (impossible, (1.0,), "'y' of the model impossible has 1 of 1 values that are not finite"),
        (nowhere, (1.0,), "expected a finite density"),
        (schools, (), "the model schools raised TypeError"),
        (schools, (S, Y[:2]), "the model schools raised"),
    ],
)
def test_mistakes_are_named(model, data, message):
    with pytest.raises(TeacherError, match=message):
        em.posterior(model, *data)
