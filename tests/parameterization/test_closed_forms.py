"""Criteria against closed forms, on exact draws."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_hierarchies import gaussian, hierarchy

from pplemd.dsl import Centering
from pplemd.parameterization import (
    Curvature,
    Fisher,
    best_for_gaussians,
    divergence,
    isotropic_divergence,
    shares,
)

KEY = jax.random.key(0)
ERRORS = np.array([0.2, 0.5, 1.0, 1.6, 3.0])


def test_the_curvature_rule_says_which_coordinates_are_less_correlated():
    """Centered iff s^2 > -1 / beta (Kingma & Welling), on a grid of w, s, beta and of the parent's own curvature.

    log p = -(z - w y)^2 / (2 s^2) + alpha y^2 / 2 + beta z^2 / 2, in (y, z) and in (y, (z - w y) / s).
    """
    for w, s, beta, alpha in itertools.product((-2.0, 0.3, 1.0), (0.2, 0.9, 3.0), (-0.1, -1.0, -20.0), (-0.1, -5.0)):
        hessian = np.array([[alpha - w**2 / s**2, w / s**2], [w / s**2, beta - 1 / s**2]])
        change = np.array([[1.0, 0.0], [w, s]])  # (y, e) -> (y, z = w y + s e)
        squared = [h[0, 1] ** 2 / (h[0, 0] * h[1, 1]) for h in (hessian, change.T @ hessian @ change)]
        information = -beta * s**2
        kappa = information / (1 + information)
        assert (kappa > 0.5) == (squared[0] < squared[1])


@pytest.fixture(scope="module")
def known():
    return gaussian(ERRORS)


@pytest.mark.slow
def test_fisher_finds_kappa_where_coordinates_are_independent(known):
    share = jnp.asarray(known.kappa, jnp.float32)
    exact = Fisher(tail=0.0)
    loc = Centering({"theta": share}, {"theta": share})
    assert float(exact.cost(*known.pair, loc)) < 0.05
    np.testing.assert_allclose(exact.fit(*known.pair).loc["theta"], share, atol=0.06)
    for number in (0.0, 0.4, 1.0):
        assert float(exact.cost(*known.pair, known.placement.problem.centering(number))) > 0.3


def test_curvature_finds_kappa_from_scores(known):
    found = shares(known.placement, known.pilot)["theta"]
    np.testing.assert_allclose(found, known.kappa, atol=0.05)
    # element 2 has kappa = 1/2, where either is right
    chosen = np.asarray(Curvature().fit(*known.pair).loc["theta"])
    np.testing.assert_array_equal(chosen[[0, 1, 3, 4]], [1.0, 1.0, 0.0, 0.0])
    partial = Curvature(partial=True).fit(*known.pair)
    np.testing.assert_allclose(partial.loc["theta"], known.kappa, atol=0.05)


@pytest.mark.parametrize("declared", [0.0, 0.5, 1.0])
def test_curvature_of_a_site_that_declares_its_centering_is_the_same(declared, known):
    """Kappa is in s.d. of the prior, whatever coordinates the site asks for."""
    problem = known.placement.problem
    sites = tuple(dataclasses.replace(s, centered=declared) if s.eligible else s for s in problem.sites)
    placement = dataclasses.replace(known.placement, problem=dataclasses.replace(problem, sites=sites))
    assert placement.free == ()
    np.testing.assert_allclose(shares(placement, known.pilot)["theta"], known.kappa, atol=0.05)


@pytest.mark.slow_for("1e-07")
@pytest.mark.parametrize("units", [1e-7, 1.0, 1e7])
def test_fisher_divergence_does_not_depend_on_units(units):
    rng = np.random.default_rng(0)
    v = rng.standard_normal((500, 3)).astype(np.float32)
    score = -v * np.array([1.0, 4.0, 0.5], np.float32) - 0.3 * v[:, ::-1]
    for of in (divergence, isotropic_divergence):
        expected = of(jnp.asarray(v), jnp.asarray(score))
        found = of(jnp.asarray(units * v), jnp.asarray(score / units))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    still = jnp.asarray(v).at[:, 1].set(2.0)  # a coordinate that never moved
    assert np.isfinite(jax.grad(lambda s: divergence(still, s))(jnp.asarray(score))).all()
    assert np.isfinite(jax.grad(lambda x: divergence(x, jnp.asarray(score)))(still)).all()


def test_fisher_divergence_is_zero_for_independent_gaussians_alone():
    draws = np.random.default_rng(0).normal(size=(500, 3)) * [0.1, 1.0, 20.0] + 5.0
    v = jnp.asarray(draws, jnp.float32)
    score = -(v - 5.0) / jnp.array([[0.01, 1.0, 400.0]])
    assert abs(float(divergence(v, score))) < 1e-4
    assert float(divergence(v, -score)) > 10.0  # a flipped sign
    assert float(isotropic_divergence(v, score)) > 10.0  # of unlike scales
    mixed = jax.random.normal(KEY, (400, 6))
    for trial in range(3):
        assert float(divergence(mixed[:, :3] * (trial + 1), mixed[:, 3:] ** 3)) >= 0.0


@pytest.mark.slow_for("1.5")
@pytest.mark.parametrize("error", [1.5, 0.65])
def test_fisher_finds_the_closed_form_of_the_scale(error):
    """In a hierarchy with many elements, loc at its own best: D is larger 0.2 away on either side, kappa included."""
    known = hierarchy(error, count=100, draws=2000)
    closed = best_for_gaussians({"theta": jnp.asarray(known.kappa, jnp.float32)})

    def cost(by):
        return float(Fisher(tail=0.0).cost(*known.pair, Centering(closed.loc, {"theta": closed.scale["theta"] + by})))

    assert max(cost(-0.05), cost(0.0), cost(0.05)) < min(cost(-0.2), cost(0.2))


NEAR = {  # s -> (tau of the data, so that kappa is the table's; the measured argmin, 0.1 wider on either side)
    0.1: (0.57, 0.85, 1.0),
    0.5: (0.52, 0.3, 0.55),
    1.0: (0.65, 0.1, 0.4),
    2.0: (1.06, 0.0, 0.25),
}


@pytest.mark.slow_for("0.1")
@pytest.mark.parametrize("error", NEAR)
def test_the_best_tied_lambda_of_normal_hierarchies(error):
    """Near the measured ones: 0.95, 0.40 to 0.45, 0.20 to 0.30 and 0.10 to 0.15."""
    tau, low, high = NEAR[error]
    known = hierarchy(error, tau)
    problem = known.placement.problem
    grid = np.linspace(0.0, 1.0, 21)
    costs = [float(Fisher().cost(*known.pair, problem.centering(float(one)))) for one in grid]
    assert low <= grid[int(np.argmin(costs))] <= high
