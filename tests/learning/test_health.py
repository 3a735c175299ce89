"""Figures of health: what each is where its value is known."""

import dataclasses
from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from pplemd.algorithms import EMD, DistillationContext, ScoreUpdates
from pplemd.conditions import AbstractCondition
from pplemd.diffusion import EDMWeight, LogUniform
from pplemd.dsl import Program, generate, latent, trace
from pplemd.inference import Cancellation, Chain, Coordinates, Draw, Langevin
from pplemd.learning import Adam, Step, Training
from pplemd.learning.health import chain_figures, chi2, closed_loop, curl, score_lag, triangle
from pplemd.teachers import AbstractDenoiser, GaussianMixture

KEY = jax.random.key(3)
MIXTURE = GaussianMixture([[2.0, 0.0], [-1.0, 1.5], [0.0, -2.0]], [0.3, 0.5, 0.2], [1, 2, 1])
QUARTER_TURN = jnp.array([[0.0, -1.0], [1.0, 0.0]])
SIGMAS = LogUniform(0.999, 1.001)  # as good as one sigma, where a closed form is wanted


class Line(Program):
    """x = a z."""

    a: jax.Array

    def __call__(self):
        return generate("x", self.a * latent("z", dist.Normal(jnp.zeros(1), 1.0)))


class LinearDenoiser(AbstractDenoiser):
    """The exact denoiser of N(0, std^2)."""

    std: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True, default=(1,))
    condition: AbstractCondition | None = eqx.field(static=True, default=None)

    def denoise(self, x_sigma, sigma, label=None, key=None):
        return self.std**2 / (self.std**2 + sigma**2) * x_sigma

    def score(self, x_sigma, sigma, label=None):
        return (self.denoise(x_sigma, sigma) - x_sigma) / sigma**2


def exact_score(x):
    return MIXTURE.score(x, jnp.asarray(0.4))


@pytest.mark.parametrize("strength", [0.0, 0.5, 3.0])
def test_curl_is_the_rotation_s_share_of_the_jacobian(strength):
    """Score -x + w R x: A = -I + w R, so that |(A - A^T) v| / |A v| = 2 w / sqrt(1 + w^2) for every v."""
    v = jax.random.normal(KEY, (2,))
    found = curl(lambda x: -x + strength * QUARTER_TURN @ x, jnp.array([0.3, -2.0]), v)
    np.testing.assert_allclose(found, 2 * strength / np.sqrt(1 + strength**2), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_an_exact_score_has_no_curl():
    keys = jax.random.split(KEY, 50)
    places, probes = (jax.vmap(lambda k, n=n: n * jax.random.normal(k, (2,)))(keys) for n in (1.5, 1.0))
    found = jax.vmap(lambda x, v: curl(exact_score, x, v))(places, probes[::-1])
    assert float(jnp.max(found)) < 1e-4


def test_an_exact_score_has_no_loop():
    def one(key):
        return closed_loop(
            exact_score, triangle(key, 1.5 * jax.random.normal(jax.random.fold_in(key, 1), (2,)), jnp.asarray(0.4))
        )

    found = jax.jit(jax.vmap(one))(jax.random.split(KEY, 200))
    assert float(jnp.mean(found)) < 1e-3
    assert float(jnp.max(found)) < 0.05  # where the sides' integrals are nearly zero themselves


def test_a_rotation_s_loop_is_its_area():
    """Of -x + w R x the closed integral is 2 w area (Green), that of a side (|a|^2 - |b|^2) / 2 + w a x b."""
    strength, corners = 0.7, np.array([[0.1, 0.2], [1.3, -0.4], [0.5, 1.1]])
    ends = np.roll(corners, -1, axis=0)
    crosses = corners[:, 0] * ends[:, 1] - corners[:, 1] * ends[:, 0]
    sides = (np.sum(corners**2, axis=1) - np.sum(ends**2, axis=1)) / 2 + strength * crosses
    found = closed_loop(lambda x: -x + strength * QUARTER_TURN @ x, jnp.asarray(corners, jnp.float32))
    np.testing.assert_allclose(found, abs(sides.sum()) / np.abs(sides).sum(), rtol=1e-4)
    area = 0.5 * abs(crosses.sum())
    np.testing.assert_allclose(abs(sides.sum()), 2 * strength * area, rtol=1e-9)


def test_a_triangle_s_sides_are_as_long_as_asked_in_many_dimensions():
    x = jnp.full((20, 20, 1), 2.0)
    corners = triangle(KEY, x, jnp.asarray(0.6))
    lengths = jnp.sqrt(jnp.sum((corners - jnp.roll(corners, 1, axis=0)) ** 2, axis=(1, 2, 3)))
    np.testing.assert_allclose(lengths, 0.6, rtol=0.15)
    np.testing.assert_allclose(jnp.mean(corners), 2.0, atol=0.05)


@pytest.mark.slow_for("0.8-True")
@pytest.mark.parametrize(("known", "healthy"), [(0.8, True), (0.9, True), (0.2, False)])
def test_score_lag_is_the_ratio_of_two_linear_denoisers(known, healthy):
    """E |c x_sigma - x|^2 = (c - 1)^2 a^2 + c^2 sigma^2, c = s^2 / (s^2 + sigma^2), for x ~ N(0, a^2)."""
    a, count, sigma = 0.8, 40_000, 1.0
    x = a * jax.random.normal(KEY, (count, 1))
    samples = (x, jnp.full(count, sigma), None)
    found = score_lag(
        LinearDenoiser(jnp.asarray(known)),
        GaussianMixture([[0.0]], 1.2),
        jax.random.key(4),
        samples,
        EDMWeight(1.0),
    )

    def loss(std):
        c = std**2 / (std**2 + sigma**2)
        return (c - 1) ** 2 * a**2 + c**2 * sigma**2

    np.testing.assert_allclose(found, loss(known) / loss(1.2), rtol=0.02)
    assert (found < 1) == healthy


def test_chi2_is_a_standard_normal_score():
    found = jax.vmap(lambda k: chi2({"a": jax.random.normal(k, (40, 3)), "b": jax.random.normal(k, (7,))}))(
        jax.random.split(KEY, 2000)
    )
    assert abs(float(jnp.mean(found))) < 4 / np.sqrt(2000)
    np.testing.assert_allclose(float(jnp.std(found)), 1.0, atol=0.15)  # each b repeats numbers of an a
    assert chi2(1.5 * jax.random.normal(KEY, (500,))) > 10


def test_chain_figures():
    start = jnp.array([[1.0], [0.0]])
    ends = Coordinates(jnp.array([[0.9], [0.5]]), {"z": jnp.array([[2.0], [1.0]])})
    coupled = Coordinates(jnp.array([[0.7], [0.1]]), {"z": jnp.zeros((2, 1))})
    draw = jax.vmap(Draw)(ends, coupled, jnp.ones(2), jnp.zeros(2), jnp.ones(2))
    found = chain_figures(draw, start, True)
    moved, drift = np.sqrt((0.3**2 + 0.1**2) / 2), np.sqrt((0.2**2 + 0.4**2) / 2)
    np.testing.assert_allclose(found["noise_to_drift"], moved / drift, rtol=1e-5)
    np.testing.assert_allclose(found["latents_chi2"], 2.5 - 1, rtol=1e-5)  # sqrt(2 / n) is 1 for n = 2
    assert set(chain_figures(draw, start, False)) == {"noise_to_drift", "noise_chi2"}


@cache
def case(gamma=0.1, frozen=False):
    chain = Chain(
        Langevin(Coordinates(gamma, 0.01)), 4, Cancellation.NONE if gamma == 0.1 else Cancellation.ALL
    )  # health cancels all the same
    score = ScoreUpdates(Adam(0.01), SIGMAS, EDMWeight(1.0))
    algorithm = EMD(chain=chain, sigmas=SIGMAS, score=score, move_latents=not frozen)
    problem = trace(Line(jnp.ones(())), shape=(1,))
    return Step(DistillationContext(Training(steps=10, batch=8), problem, LinearDenoiser(jnp.ones(()))), algorithm)


def health(step, state, key):
    return step.algorithm.health(step.context, state, key, 500)


CHECK = eqx.filter_jit(eqx.debug.assert_max_traces(health, max_traces=2))


def state_of(step, a=1.0, known=1.0):
    return step.init({"generator": Line(jnp.asarray(a)), "score": LinearDenoiser(jnp.asarray(known))})


def checked(check, a=1.0, known=1.0, key=KEY):
    """Compiled once for each of two cases in all tests: CHECK refuses a third trace."""
    return {name: float(value) for name, value in CHECK(check, state_of(check, a, known), key).items()}


@pytest.mark.slow
def test_at_the_optimum_there_is_nothing_to_find():
    found = checked(case())
    for name in ("score_gap", "curl_teacher", "curl_student", "loop_teacher", "loop_student"):
        assert abs(found[name]) < 1e-4, name
    np.testing.assert_allclose(found["score_lag"], 1, rtol=1e-5)
    assert abs(found["noise_chi2"]) < 4
    assert abs(found["latents_chi2"]) < 4
    assert found["noise_to_drift"] > 1e5


def test_score_gap_is_that_of_two_linear_scores():
    """sigma |1 / (s^2 + sigma^2) - 1 / (1 + sigma^2)| sqrt(a^2 + sigma^2) at sigma = 1."""
    found = checked(case(), a=0.7, known=0.5)
    wanted = abs(1 / (0.5**2 + 1) - 1 / 2) * np.sqrt(0.7**2 + 1)
    np.testing.assert_allclose(found["score_gap"], wanted, rtol=4 / np.sqrt(2 * 500))
    assert 0 < found["noise_to_drift"] < 100


@pytest.mark.slow
def test_a_broken_chain_shows_in_its_chi2():
    """A Langevin step of 1.5 is u <- -u / 2 + sqrt(3) n: after 4 steps the mean square is near 4, not 1."""
    found = checked(case(gamma=1.5, frozen=True))
    assert found["noise_chi2"] > 30
    assert "latents_chi2" not in found


def test_a_check_draws_its_own_and_leaves_the_state_alone():
    check = case()
    a, b = (checked(check, 0.9, 0.8) for _ in range(2))
    assert a == b
    other = checked(check, 0.9, 0.8, key=jax.random.key(8))
    assert all(a[name] != other[name] for name in ("score_lag", "score_gap", "noise_chi2", "latents_chi2"))
    assert all(np.isfinite(list(a.values())))
    late = dataclasses.replace(state_of(check), step=jnp.asarray(7, jnp.int32))
    assert set(CHECK(check, late, KEY)) == set(a)
