"""Every transport family against its own sampler, its own density and its exact quantile."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from numpyro.distributions import transforms

from pplemd.dsl import transport
from pplemd.dsl.effects import unmask

_COVARIANCE = jnp.array([[1.0, 0.6, 0.1], [0.6, 2.0, -0.3], [0.1, -0.3, 0.5]])

NORMAL_BASE = {
    "normal": dist.Normal(jnp.array([0.3, -1.0]), 0.7),
    "normal batch": dist.Normal(jnp.zeros((2, 3)), jnp.array([[0.5], [2.0]])),
    "independent": dist.Normal(jnp.array([0.3, -1.0]), 0.7).to_event(1),
    "expanded": dist.Normal(0.4, 0.5).expand([2, 3]),
    "expanded inside": dist.Normal(jnp.array([[0.4], [1.0]]), 0.5).expand([2, 3]).to_event(1),
    "expanded event": dist.Normal(jnp.array([0.4, 1.0]), 0.5).to_event(1).expand([3]),
    "masked": dist.Normal(jnp.array([0.3, -1.0]), 0.7).mask(jnp.array([True, False])).to_event(1),
    "multivariate normal": dist.MultivariateNormal(jnp.array([1.0, 0.0, -1.0]), _COVARIANCE),
    "multivariate normal batch": dist.MultivariateNormal(jnp.ones((2, 3)), _COVARIANCE),
    "multivariate normal expanded": dist.MultivariateNormal(jnp.ones(3), _COVARIANCE).expand([2]),
    "log normal": dist.LogNormal(jnp.array([0.3, -1.0]), 0.4),
    "transformed": dist.TransformedDistribution(
        dist.Normal(jnp.zeros(2), 1.0), [transforms.AffineTransform(0.5, 2.0), transforms.SigmoidTransform()]
    ),
    "transformed expanded": dist.TransformedDistribution(
        dist.Normal(0.0, 1.0), transforms.AffineTransform(0.5, 2.0)
    ).expand([2]),
    "laplace": dist.Laplace(jnp.array([0.3, -1.0]), 0.7),
    "cauchy": dist.Cauchy(jnp.array([0.3, -1.0]), 0.7),
    "logistic": dist.Logistic(jnp.array([0.3, -1.0]), 0.7),
    "gumbel": dist.Gumbel(jnp.array([0.3, -1.0]), 0.7),
    "half normal": dist.HalfNormal(jnp.array([0.3, 1.5])),
    "half cauchy": dist.HalfCauchy(jnp.array([0.3, 1.5])),
    "uniform": dist.Uniform(jnp.array([-1.0, 2.0]), 3.0),
    "exponential": dist.Exponential(jnp.array([0.3, 1.5])),
    "weibull": dist.Weibull(jnp.array([0.3, 1.5]), 2.0),
    "pareto": dist.Pareto(jnp.array([0.3, 1.5]), 3.0),
}
PRIOR_BASE = {
    "student": dist.StudentT(3.0, jnp.array([0.3, -1.0]), 0.7),
    "gamma": dist.Gamma(jnp.array([0.8, 3.0]), 2.0),
    "beta": dist.Beta(jnp.array([0.5, 3.0]), 2.0),
    "inverse gamma": dist.InverseGamma(jnp.array([2.5, 3.0]), 2.0),
    "dirichlet": dist.Dirichlet(jnp.array([0.8, 2.0, 3.0])),
    "dirichlet batch": dist.Dirichlet(jnp.ones((2, 3))).to_event(1),
    "truncated": dist.TruncatedNormal(jnp.array([0.3, -1.0]), 0.7, low=0.0, high=2.0),
    "logit uniform": dist.TransformedDistribution(dist.Uniform(jnp.zeros(2), 1.0), [transforms.SigmoidTransform().inv]),
    "mixture": dist.MixtureSameFamily(
        dist.Categorical(jnp.array([0.25, 0.75])), dist.Normal(jnp.array([-2.0, 1.0]), 0.5)
    ),
}
ALL = NORMAL_BASE | PRIOR_BASE


def _case(name: str) -> dist.Distribution:
    return unmask(ALL[name])


@pytest.mark.parametrize("name", ALL)
def test_base_is_the_documented_one(name: str) -> None:
    assert transport.has_normal_base(_case(name)) == (name in NORMAL_BASE)


# The change of variables below proves every family; these also try the wiring of draws, shapes and batches.
@pytest.mark.slow_for("dirichlet")
@pytest.mark.parametrize(
    "name", ["expanded inside", "multivariate normal batch", "log normal", "cauchy", "half normal", "dirichlet"]
)
def test_push_of_draws_follows_the_distribution(name: str) -> None:
    """Bounded moments (a Cauchy has no others) of push(draw) and of the distribution's own sampler agree."""
    law, count = _case(name), 10_000

    @jax.jit
    def statistics(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        key_push, key_sample = jax.random.split(key)
        keys = jax.random.split(key_push, count)
        pushed = jax.vmap(lambda key: transport.push(law, transport.draw(key, law)))(keys)
        with jax.numpy_rank_promotion("allow"):  # NumPyro relies on it
            sampled = law.sample(key_sample, (count,))
        assert pushed.shape == sampled.shape
        means, variances = jax.vmap(_moments)(jnp.stack([pushed, sampled]).reshape(2, count, -1))
        return means[0] - means[1], jnp.sqrt(variances.sum(axis=0) / count)

    difference, error = statistics(jax.random.key(1))
    np.testing.assert_array_less(jnp.abs(difference), 4.5 * error)


def _moments(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    bounded = jnp.tanh(z)
    features = jnp.concatenate([bounded, bounded**2, bounded[:, :1] * bounded[:, -1:], jnp.cos(3.0 * z)], axis=1)
    return features.mean(axis=0), features.var(axis=0)


@pytest.mark.parametrize("name", ["gamma", "truncated", "logit uniform", "mixture"])
def test_push_undoes_the_unconstraining_of_a_prior_draw(name: str) -> None:
    law, key = _case(name), jax.random.key(4)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # NumPyro relies on them
        expected = law.sample(key)
    np.testing.assert_allclose(transport.push(law, transport.draw(key, law)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_log_base_is_the_prior_changed_in_variables(name: str) -> None:
    """log_base(u) = log p(T(u)) + log|det dT/du|, the determinant by automatic differentiation."""
    law = _case(name)
    u = 0.8 * jax.random.normal(jax.random.key(3), transport.base_shape(law))

    def value(u: jax.Array) -> jax.Array:
        z = transport.push(law, u)
        free = z[..., :-1] if name.startswith("dirichlet") else z  # a simplex has one coordinate less
        return free.reshape(-1)

    @jax.jit
    def both(u: jax.Array) -> tuple[jax.Array, jax.Array]:
        prior, jacobian = transport.log_prior(law, transport.push(law, u)), jax.jacfwd(value)(u)
        return transport.log_base(law, u), prior + _log_determinant(jacobian.reshape(u.size, u.size))

    found, expected = both(u)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.slow_for("concentration0")
@pytest.mark.parametrize("concentration", [[0.05, 0.1, 0.05], [0.2, 0.2, 0.2], [3.0, 0.5, 1.0]])
def test_draws_of_a_dirichlet_have_finite_slopes_of_mean_zero(concentration: list[float]) -> None:
    """Stein's identity, E[grad log p(u)] = 0, holds for the law's own draws; shares round to 0 and 1 here."""
    law, count = dist.Dirichlet(jnp.array(concentration)), 20_000
    u = jax.vmap(lambda key: transport.draw(key, law))(jax.random.split(jax.random.key(5), count))
    slopes = np.asarray(jax.jit(jax.vmap(jax.grad(lambda u: transport.log_base(law, u))))(u))
    assert np.isfinite(slopes).all()
    np.testing.assert_array_less(np.abs(slopes.mean(axis=0)), 4.5 * slopes.std(axis=0) / np.sqrt(count))
    shares = np.asarray(jax.vmap(lambda u: transport.push(law, u))(u))
    expected = np.array(concentration) / sum(concentration)
    np.testing.assert_array_less(np.abs(shares.mean(axis=0) - expected), 4.5 * shares.std(axis=0) / np.sqrt(count))


def _log_determinant(jacobian: jax.Array) -> jax.Array:
    return jnp.linalg.slogdet(jacobian)[1]


@pytest.mark.parametrize("name", ALL)
def test_base_shape_and_dtype_are_those_of_draws(name: str) -> None:
    u = jax.eval_shape(lambda key: transport.draw(key, _case(name)), jax.random.key(0))
    assert (u.shape, u.dtype) == (transport.base_shape(_case(name)), jnp.float32)


EXACT = {
    "laplace": (dist.Laplace(0.0, 1.0), scipy.stats.laplace),
    "cauchy": (dist.Cauchy(0.0, 1.0), scipy.stats.cauchy),
    "logistic": (dist.Logistic(0.0, 1.0), scipy.stats.logistic),
    "gumbel": (dist.Gumbel(0.0, 1.0), scipy.stats.gumbel_r),
    "half normal": (dist.HalfNormal(1.0), scipy.stats.halfnorm),
    "half cauchy": (dist.HalfCauchy(1.0), scipy.stats.halfcauchy),
    "uniform": (dist.Uniform(0.0, 1.0), scipy.stats.uniform),
    "exponential": (dist.Exponential(1.0), scipy.stats.expon),
    "weibull": (dist.Weibull(1.0, 1.7), scipy.stats.weibull_min(1.7)),
}


@pytest.mark.parametrize("name", EXACT)
def test_quantiles_are_exact_in_float32_tails(name: str) -> None:
    """Against SciPy's float64 ppf below the median and isf above it, out to 10 standard deviations."""
    law, exact = EXACT[name]
    u = np.linspace(-10.0, 10.0, 201)
    expected = np.where(u < 0, exact.ppf(scipy.stats.norm.cdf(u)), exact.isf(scipy.stats.norm.sf(u)))
    found = jax.jit(lambda u: transport.push(law, u))(jnp.asarray(u, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", EXACT)
def test_quantiles_have_the_exact_slope(name: str) -> None:
    """dz/du = N(u) / p(z), finite and positive in the tails and at zero, where two branches meet."""
    law, _ = EXACT[name]
    u = jnp.array([-9.0, -4.0, -1.0, -0.0, 0.0, 1e-6, 0.5, 3.0, 9.0])
    z, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda u: transport.push(law, u))))(u)
    expected = jnp.exp(jax.scipy.stats.norm.logpdf(u) - law.log_prob(z))
    np.testing.assert_allclose(slope, expected, rtol=3e-3)
    assert bool(jnp.all(slope > 0))


def test_draws_stay_inside_of_the_support() -> None:
    """A power of a Uniform whose float32 samples underflow to 0 has finite base coordinates and density there."""
    law = dist.TransformedDistribution(dist.Uniform(jnp.zeros(50), 1.0), transforms.PowerTransform(100.0))
    assert float(law.sample(jax.random.key(0)).min()) == 0.0
    u = transport.draw(jax.random.key(0), law)
    assert bool(jnp.all(jnp.isfinite(u)))
    assert bool(jnp.isfinite(transport.log_base(law, u)))


def test_a_mask_changes_neither_the_law_nor_its_density() -> None:
    plain, masked = ALL["normal"], dist.Normal(jnp.array([0.3, -1.0]), 0.7).mask(jnp.array([True, False]))
    z = jnp.array([0.1, 0.2])
    np.testing.assert_allclose(transport.log_prior(unmask(masked), z), transport.log_prior(plain, z))


def test_an_absolute_value_has_no_normal_base() -> None:
    assert not transport.has_normal_base(dist.FoldedDistribution(dist.Normal(0.0, 1.0)))
