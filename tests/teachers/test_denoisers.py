"""Every form in which a teacher may be given says the same: one Gaussian (one per label), every convention."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.conditions import AbstractCondition
from pplemd.diffusion import FlowClean, FlowVelocity, VPClean, VPEps, VPVelocity, linear_schedule
from pplemd.errors import TeacherError
from pplemd.networks import AbstractClassNetwork
from pplemd.teachers import (
    AbstractTeacher,
    Denoiser,
    DenoiserFunction,
    GaussianMixture,
    OneStep,
    ScoreFunction,
    check,
    denoise,
    one_step,
)

MEANS, STD, SIGMA_DATA = np.array([[1.0, -0.5], [-2.0, 0.3]]), 0.7, 0.5
EXACT = GaussianMixture(MEANS, STD, labels=True)
SCHEDULE = linear_schedule()


def clean(x_sigma, sigma, label):
    """E[x | x_sigma] of N(m, STD^2)."""
    return (jnp.asarray(MEANS, jnp.float32)[label] * sigma**2 + STD**2 * x_sigma) / (STD**2 + sigma**2)


class Ideal(AbstractClassNetwork):
    """The raw prediction, from its own input alone, that makes EDM's denoiser exact: (E[x | x_sigma] - skip) / out."""

    shape: tuple[int, ...] = eqx.field(static=True, default=(2,))
    classes: int | None = eqx.field(static=True, default=2)

    def __call__(self, x, time, label=None, key=None):
        sigma = jnp.exp(4 * time)
        root = jnp.sqrt(sigma**2 + SIGMA_DATA**2)
        x_sigma = root * x
        return (clean(x_sigma, sigma, label) - SIGMA_DATA**2 / root**2 * x_sigma) / (sigma * SIGMA_DATA / root)


def at_step(time):
    """Sigma at a fractional step of the schedule."""
    return jnp.exp(jnp.interp(time, jnp.arange(1000.0), jnp.log(jnp.asarray(SCHEDULE.sigmas, jnp.float32))))


def vp(predict):
    """A network of x_t = alpha_t x_sigma and t, from what it predicts given (alpha_t, sigma, x, eps)."""

    def network(x_t, time, label):
        sigma = at_step(time)
        alpha = 1 / jnp.sqrt(1 + sigma**2)
        x = clean(x_t / alpha, sigma, label)
        return predict(alpha, sigma, x, (x_t / alpha - x) / sigma)

    return network


def flow(predict):
    """A network of x_t = t x1 + (1 - t) n and t, from what it predicts given (x1, n)."""

    def network(x_t, time, label):
        x = clean(x_t / time, (1 - time) / time, label)
        return predict(x, (x_t - time * x) / (1 - time))

    return network


def given(function):
    return DenoiserFunction(function, (2,), 2)


TEACHERS = {
    "mixture": EXACT,
    "network": Denoiser(Ideal(), SIGMA_DATA),
    "score": ScoreFunction(lambda x, s, c: (jnp.asarray(MEANS, jnp.float32)[c] - x) / (STD**2 + s**2), (2,), 2),
    "denoiser": given(clean),
    "vp eps": given(VPEps(vp(lambda alpha, sigma, x, eps: eps), SCHEDULE)),
    "vp v": given(VPVelocity(vp(lambda alpha, sigma, x, eps: alpha * eps - alpha * sigma * x), SCHEDULE)),
    "vp clean": given(VPClean(vp(lambda alpha, sigma, x, eps: x), SCHEDULE)),
    "flow v": given(FlowVelocity(flow(lambda x, n: x - n))),
    "flow clean": given(FlowClean(flow(lambda x, n: x))),
}


@pytest.mark.slow_for("vp v")
@pytest.mark.parametrize("name", TEACHERS)
def test_every_form_gives_the_same_score(name):
    teacher = TEACHERS[name]
    check(teacher)
    for sigma in (0.05, 0.6, 5.0):
        for label in (0, 1):
            x, at, choice = jnp.array([0.4, -1.1]), jnp.asarray(sigma), jnp.asarray(label, jnp.int32)
            expected = EXACT.score(x, at, choice)
            # a score is the denoiser's error times 1 / sigma^2: single precision gives 1e-7 / sigma^2 at best
            np.testing.assert_allclose(teacher.score(x, at, choice), expected, rtol=1e-3, atol=3e-6 / sigma**2)
            np.testing.assert_allclose(denoise(teacher, x, at, choice), clean(x, at, label), rtol=1e-4, atol=1e-5)


def test_a_function_without_classes_is_called_without_a_label():
    plain = DenoiserFunction(lambda x, sigma: x / (1 + sigma**2), (3,))
    check(plain)
    np.testing.assert_allclose(plain.score(jnp.ones(3), jnp.asarray(2.0)), -np.ones(3) / 5, rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, sigma: x[None],
        lambda x, sigma: x.astype(jnp.float16),
        lambda x, sigma: jnp.sum(x),
    ],
)
def test_a_score_of_another_shape_or_type_is_refused(function):
    with pytest.raises(TeacherError, match="expected"):
        check(ScoreFunction(function, (3,)))


class Pair(AbstractTeacher):
    """A score that comes with something else."""

    shape: tuple[int, ...] = eqx.field(static=True, default=(3,))
    condition: AbstractCondition | None = None

    def score(self, x_sigma, sigma, label=None):
        return x_sigma, sigma


def test_a_score_that_is_no_array_is_refused():
    with pytest.raises(TeacherError, match="expected"):
        check(Pair())


def test_one_step_asks_the_denoiser_once_at_its_sigma():
    teacher, z, label = TEACHERS["network"], jnp.array([0.3, -0.8]), jnp.asarray(1, jnp.int32)
    generator = one_step(teacher, 2.5)
    assert isinstance(generator, OneStep)
    np.testing.assert_allclose(generator(z, label), clean(2.5 * z, 2.5, 1), rtol=1e-4)


@pytest.mark.parametrize(("teacher", "sigma"), [(EXACT, 1.0), (TEACHERS["score"], 1.0)])
def test_one_step_needs_a_denoiser(teacher, sigma):
    with pytest.raises(TeacherError, match="em.networks.MLP"):
        one_step(teacher, sigma)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_one_step_needs_a_positive_sigma(sigma):
    with pytest.raises(TeacherError, match="sigma > 0"):
        one_step(TEACHERS["network"], sigma)
