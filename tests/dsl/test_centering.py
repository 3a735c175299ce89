"""Partially centered coordinates: against automatic differentiation, their own inverse, and what they must equal."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree
from numpyro.distributions import transforms

from pplemd import dsl
from pplemd.dsl import transport
from pplemd.dsl.transport import STANDARD
from pplemd.errors import ProgramError

_LOC, _SCALE = jnp.array([0.3, -1.0, 2.0]), jnp.array([0.7, 2.5, 0.1])
_TRIL = jnp.array([[0.7, 0.0, 0.0], [0.4, 1.5, 0.0], [-1.0, 0.3, 0.2]])
FAMILIES = {
    "normal": dist.Normal(_LOC, _SCALE),
    "normal of one scale": dist.Normal(_LOC, 0.4).to_event(1),
    "expanded": dist.Normal(jnp.array([[0.4], [1.0]]), 0.5).expand([2, 3]).to_event(1),
    "log normal": dist.LogNormal(_LOC, _SCALE),
    "laplace": dist.Laplace(_LOC, _SCALE),
    "cauchy": dist.Cauchy(_LOC, _SCALE),
    "logistic": dist.Logistic(_LOC, _SCALE),
    "gumbel": dist.Gumbel(_LOC, _SCALE),
    "exp of laplace": dist.TransformedDistribution(dist.Laplace(_LOC, _SCALE), transforms.ExpTransform()),
    "student": dist.StudentT(3.0, _LOC, _SCALE),
    "exp of student": dist.TransformedDistribution(dist.StudentT(3.0, _LOC, _SCALE), transforms.ExpTransform()),
    "affine student": dist.TransformedDistribution(
        dist.StudentT(3.0, _LOC, _SCALE), [transforms.AffineTransform(1.0, -2.0), transforms.SigmoidTransform()]
    ),
    "simplex of student": dist.TransformedDistribution(
        dist.StudentT(3.0, _LOC, _SCALE).to_event(1), transforms.StickBreakingTransform()
    ),
    "multivariate normal": dist.MultivariateNormal(_LOC, scale_tril=_TRIL),
    "multivariate normal of a batch": dist.MultivariateNormal(
        _LOC, scale_tril=jnp.stack([_TRIL, 2.0 * _TRIL])
    ).to_event(1),
    "multivariate normal expanded": dist.MultivariateNormal(_LOC, covariance_matrix=_TRIL @ _TRIL.T).expand([2]),
    "exp of multivariate normal": dist.TransformedDistribution(
        dist.MultivariateNormal(_LOC, scale_tril=_TRIL), transforms.ExpTransform()
    ),
    "multivariate student": dist.MultivariateStudentT(3.0, _LOC, _TRIL),
}


def _lambdas(shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    key_loc, key_scale = jax.random.split(jax.random.key(5))
    return jax.random.uniform(key_loc, shape), jax.random.uniform(key_scale, shape)


@pytest.mark.parametrize("name", FAMILIES)
def test_to_base_undoes_from_base_and_knows_its_determinant(name: str) -> None:
    law = FAMILIES[name]
    shape = transport.base_shape(law)
    u = 0.8 * jax.random.normal(jax.random.key(3), shape)
    loc, scale = _lambdas(shape)

    @jax.jit
    def all_of(u: jax.Array) -> Any:
        v = transport.from_base(law, u, loc, scale)
        jacobian = jax.jacfwd(lambda v: transport.to_base(law, v, loc, scale)[0])(v)
        return v, *transport.to_base(law, v, loc, scale), jacobian.reshape(u.size, u.size)

    v, back, log_det, jacobian = all_of(u)
    assert np.max(np.abs(v - u)) > 0.1
    np.testing.assert_allclose(back, u, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_centered_is_the_value_and_non_centered_the_standard_value(name: str) -> None:
    law = FAMILIES[name]
    u = 0.8 * jax.random.normal(jax.random.key(4), transport.base_shape(law))
    zero = jnp.zeros_like(u)
    value = transport.push(law, u)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # NumPyro relies on them
        core, parts = transport.innermost(law), []
        while isinstance(core, dist.TransformedDistribution):
            parts, core = core.transforms, transport.innermost(core.base_dist)
        for part in reversed(parts):
            value = part.inv(value)
        if {"scale_tril"} <= set(core.arg_constraints):
            standard = jnp.linalg.solve(core.scale_tril, (value - core.loc)[..., None])[..., 0]
        else:
            standard = (value - core.loc) / core.scale
    np.testing.assert_allclose(transport.from_base(law, u, zero + 1, zero + 1), value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(transport.from_base(law, u, zero, zero), standard, rtol=1e-4, atol=1e-5)
    if type(core) is dist.Normal:  # as it is today
        np.testing.assert_array_equal(transport.from_base(law, u, zero, zero), u)
        found, log_det = transport.to_base(law, u, zero, zero)
        np.testing.assert_array_equal(found, u)
        assert log_det == 0.0


@pytest.mark.slow_for("Laplace", "Cauchy")
@pytest.mark.parametrize("family", [f for f in STANDARD if f is not dist.Normal])
def test_normal_scores_keep_float32_tails(family: Any) -> None:
    """Against scipy in double precision, to |u| = 11, with the slope that automatic differentiation finds."""
    exact = getattr(scipy.stats, {"Gumbel": "gumbel_r"}.get(family.__name__, family.__name__.lower()))
    wide = np.linspace(-11.0, 11.0, 45)
    s = np.where(wide < 0, exact.ppf(scipy.stats.norm.cdf(wide)), exact.isf(scipy.stats.norm.sf(wide)))
    single = jnp.asarray(s, jnp.float32)
    rounded = np.asarray(single, np.float64)
    expected = np.where(
        rounded < exact.median(), scipy.stats.norm.ppf(exact.cdf(rounded)), scipy.stats.norm.isf(exact.sf(rounded))
    )
    score = STANDARD[family][1]
    u, log_slope = score(single)
    np.testing.assert_allclose(u, expected, rtol=2e-5, atol=2e-6)
    slope = jax.vmap(jax.grad(lambda s: score(s)[0]))(single)
    np.testing.assert_allclose(slope, np.exp(log_slope), rtol=1e-5)
    np.testing.assert_allclose(
        log_slope, exact.logpdf(rounded) - scipy.stats.norm.logpdf(expected), rtol=1e-4, atol=2e-3
    )
    curve = jax.vmap(jax.grad(lambda s: score(s)[1]))(single)
    assert np.all(np.isfinite(curve))


class Chain(dsl.Program):
    """Three sites in a row and a transformed one: every loc and scale depends on what came before."""

    net: eqx.nn.MLP

    def __call__(self) -> Any:
        mu = dsl.latent("mu", dist.Normal(0.5, 2.0))
        tau = dsl.latent("tau", dist.LogNormal(0.3 * mu, 0.5))
        z = dsl.latent("z", dist.Normal(mu, tau).expand([3]))
        w = dsl.latent("w", dist.Laplace(jnp.tanh(z), jnp.exp(self.net(z))))
        return dsl.generate("x", z + w)


class Process(dsl.Program):
    """A Gaussian process whose length and height are latents, and what stands on it."""

    x: jax.Array

    def __call__(self) -> Any:
        length, height = dsl.latent("length", dist.LogNormal(0.0, 0.5)), dsl.latent("height", dist.LogNormal(0.0, 0.5))
        apart = (self.x[:, None] - self.x[None, :]) / length
        covariance = height**2 * jnp.exp(-0.5 * apart**2) + 0.1 * jnp.eye(len(self.x))
        f = dsl.latent("f", dist.MultivariateNormal(height * self.x, scale_tril=jnp.linalg.cholesky(covariance)))
        return dsl.generate("x", f)


PROCESS = Process(jnp.linspace(-1.0, 1.0, 4))
OF_PROCESS = dsl.trace(PROCESS, shape=(4,))
BETWEEN = dsl.Centering({"f": jnp.array([0.2, 0.0, 1.0, 0.7])}, {"f": jnp.array([0.5, 1.0, 0.0, 0.7])})


@pytest.mark.slow
def test_a_matrix_scale_has_the_log_joint_and_scores_of_its_value_in_all_coordinates() -> None:
    assert [site.name for site in OF_PROCESS.sites if site.eligible] == ["f"]
    for lam in (OF_PROCESS.centering(0.0), OF_PROCESS.centering(1.0), BETWEEN):
        _check_log_joint(OF_PROCESS, PROCESS, lam)


def test_a_matrix_scale_centers_each_element_apart() -> None:
    """Tied, v_i = lambda_i f_i + (1 - lambda_i) s_i."""
    u, lam = OF_PROCESS.draw(jax.random.key(7), PROCESS), jnp.array([0.3, 0.0, 1.0, 0.8])
    v = OF_PROCESS.from_base(PROCESS, u, dsl.Centering({"f": lam}, {"f": lam}))
    expected = lam * OF_PROCESS.latents(PROCESS, u)["f"] + (1.0 - lam) * u["f"]
    np.testing.assert_allclose(v["f"], expected, rtol=1e-5, atol=1e-6)


PROGRAM = Chain(eqx.nn.MLP(3, 3, 8, 1, key=jax.random.key(0)))
PROBLEM = dsl.trace(PROGRAM, shape=(3,))
LAMBDA = dsl.Centering(
    {"tau": jnp.asarray(0.8), "z": jnp.array([0.2, 0.7, 1.0]), "w": jnp.array([0.0, 0.4, 0.9])},
    {"tau": jnp.asarray(0.4), "z": jnp.array([0.9, 0.1, 0.5]), "w": jnp.array([0.3, 1.0, 0.0])},
)
U = PROBLEM.draw(jax.random.key(1), PROGRAM)


def _log_joint(v: Any, lam: dsl.Centering) -> jax.Array:
    u, log_det = PROBLEM.to_base(PROGRAM, v, lam)
    return PROBLEM.log_base(PROGRAM, u) + log_det


@pytest.mark.slow_for("between", "0")
@pytest.mark.parametrize("lam", [PROBLEM.centering(0.0), PROBLEM.centering(1.0), LAMBDA], ids=["0", "1", "between"])
def test_log_joint_and_scores_agree_in_all_coordinates(lam: dsl.Centering) -> None:
    _check_log_joint(PROBLEM, PROGRAM, lam)


def _check_log_joint(problem: dsl.Problem, program: Any, lam: dsl.Centering) -> None:
    """log rho(v) = log p(z(v)) + log|det dz/dv|, with z(v) and its determinant by automatic differentiation."""

    @jax.jit
    def both(u: Any, lam: dsl.Centering) -> Any:
        flat, unravel = ravel_pytree(problem.from_base(program, u, lam))

        def latents(flat: jax.Array) -> Any:
            return problem.latents(program, problem.to_base(program, unravel(flat), lam)[0])

        def expected(flat: jax.Array) -> jax.Array:
            jacobian = jax.jacfwd(lambda flat: ravel_pytree(latents(flat))[0])(flat)
            return problem.log_prior(program, latents(flat)) + jnp.linalg.slogdet(jacobian)[1]

        def found(flat: jax.Array) -> jax.Array:
            u, log_det = problem.to_base(program, unravel(flat), lam)
            return problem.log_base(program, u) + log_det

        return jax.value_and_grad(found)(flat), jax.value_and_grad(expected)(flat)

    (value, score), (expected_value, expected_score) = both(problem.draw(jax.random.key(1), program), lam)
    np.testing.assert_allclose(value, expected_value, rtol=1e-4)
    np.testing.assert_allclose(score, expected_score, rtol=1e-3, atol=1e-3)


def test_place_undoes_displace_of_the_whole_chain() -> None:
    v = PROBLEM.from_base(PROGRAM, U, LAMBDA)
    u, _ = PROBLEM.to_base(PROGRAM, v, LAMBDA)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), u, U)
    np.testing.assert_array_equal(v["mu"], U["mu"])
    assert not np.allclose(v["z"], U["z"])


def test_zero_is_the_base_and_one_the_value() -> None:
    some = dsl.Centering({"z": jnp.zeros(3)}, {"z": jnp.zeros(3)})
    jax.tree.map(np.testing.assert_array_equal, PROBLEM.from_base(PROGRAM, U, some), U)
    values, v = PROBLEM.latents(PROGRAM, U), PROBLEM.from_base(PROGRAM, U, PROBLEM.centering(1.0))
    np.testing.assert_allclose(v["z"], values["z"], rtol=1e-5)
    np.testing.assert_allclose(v["w"], values["w"], rtol=1e-4)
    np.testing.assert_allclose(v["tau"], np.log(values["tau"]), rtol=1e-5, atol=1e-6)


def test_displaced_draws_follow_the_partially_centered_prior() -> None:
    """Given its parents, v ~ location lambda mu, scale tau^lambda: the standardized rest is standard normal."""
    count = 4_000

    @jax.jit
    def rests(key: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            u = PROBLEM.draw(key, PROGRAM)
            v, z = PROBLEM.from_base(PROGRAM, u, LAMBDA), PROBLEM.latents(PROGRAM, u)
            return (v["z"] - LAMBDA.loc["z"] * z["mu"]) / z["tau"] ** LAMBDA.scale["z"]

        return jax.vmap(one)(jax.random.split(key, count))

    rest = np.asarray(rests(jax.random.key(2)))
    np.testing.assert_array_less(np.abs(rest.mean(axis=0)), 4.5 / np.sqrt(count))
    np.testing.assert_array_less(np.abs(np.cov(rest.T) - np.eye(3)), 4.5 * np.sqrt(2.0 / count))


def test_one_compilation_serves_all_lambdas() -> None:
    value = eqx.filter_jit(eqx.debug.assert_max_traces(_log_joint, max_traces=1))
    found = [value(U, lam) for lam in (PROBLEM.centering(0.0), PROBLEM.centering(0.3, 0.9), PROBLEM.centering(1.0))]
    assert len({float(one) for one in found}) == 3


def test_mistakes_are_named() -> None:
    assert set(PROBLEM.centering().loc) == {"tau", "z", "w"}
    with pytest.raises(ProgramError, match="'mu'; expected lambdas of eligible"):
        PROBLEM.to_base(PROGRAM, U, dsl.Centering({"mu": jnp.zeros(())}, {"mu": jnp.zeros(())}))
    with pytest.raises(ProgramError, match="base shapes"):
        PROBLEM.from_base(PROGRAM, U, dsl.Centering({"z": jnp.zeros(())}, {"z": jnp.zeros(())}))
    with pytest.raises(ProgramError, match="same sites"):
        dsl.Centering({"z": jnp.zeros(3)}, {})


def test_a_folded_base_is_not_eligible() -> None:
    """|theta| does not tell theta, so there is no coordinate to go back from."""
    assert transport.location_scale(dist.TransformedDistribution(_folded(), transforms.AbsTransform())) is None
    assert transport.location_scale(_folded()) is not None


def _folded() -> dist.Distribution:
    return dist.Normal(_LOC, _SCALE)
