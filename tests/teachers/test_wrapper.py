"""Wrappers are looked through, however they are nested."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.diffusion import FlowClean, Rescaled, VEScore, VPClean, VPEps, VPVelocity, linear_schedule
from pplemd.errors import TeacherError
from pplemd.teachers import (
    DDIMSampler,
    DenoiserFunction,
    GaussianMixture,
    Guidance,
    Guided,
    NullClassDenoiser,
    ScoreFunction,
    convention,
    guidance_of,
    own_schedule,
    sample,
    unguided,
    unwrapped,
)

SCHEDULE = linear_schedule()
TWICE = Guidance(2.0)


def eps(x_t, time, label=None):
    """That of x = 0 for sure, so that every draw is 0; by label it is that of x = label."""
    alpha = jnp.sqrt(jnp.asarray(SCHEDULE.alphas_cumprod, x_t.dtype)[jnp.round(time).astype(int)])
    return (x_t - alpha * (0 if label is None else label.astype(x_t.dtype))) / jnp.sqrt(1 - alpha**2)


RECORD = VPEps(eps, SCHEDULE)
INNER = DenoiserFunction(RECORD, (2,), condition=4)


@pytest.mark.parametrize(
    "wrap",
    [
        NullClassDenoiser,
        lambda inner: Guided(inner, TWICE),
        lambda inner: Guided(NullClassDenoiser(inner), TWICE),
        lambda inner: NullClassDenoiser(Guided(inner, TWICE)),
        lambda inner: NullClassDenoiser(NullClassDenoiser(Guided(Guided(inner, TWICE), TWICE))),
    ],
)
def test_ddim_of_a_wrapped_teacher_goes_by_its_own_schedule(wrap):
    teacher = wrap(INNER)
    assert unwrapped(teacher) is INNER
    assert own_schedule(teacher) is SCHEDULE
    draws = sample(jax.random.key(0), teacher, 2, jnp.ones(2, jnp.int32), DDIMSampler(5))
    assert draws.shape == (2, 2)
    assert bool(jnp.isfinite(draws).all())


def test_ddim_draws_what_the_label_says():
    draws = sample(jax.random.key(0), NullClassDenoiser(INNER), 3, jnp.arange(3), DDIMSampler(10))
    np.testing.assert_allclose(draws, np.arange(3.0)[:, None] * np.ones(2), atol=1e-3)
    none = sample(jax.random.key(0), NullClassDenoiser(INNER), 1, jnp.array([-1]), DDIMSampler(10))
    np.testing.assert_allclose(none, 3.0, atol=1e-3)


@pytest.mark.parametrize(
    "function",
    [
        RECORD,
        eqx.filter_jit(RECORD),
        jax.jit(RECORD),
        RECORD.__call__,
        INNER.denoise,
        eqx.filter_jit(INNER.denoise),
        functools.partial(RECORD),
        jax.tree_util.Partial(eqx.filter_jit(RECORD)),
        eqx.filter_checkpoint(RECORD),
    ],
)
def test_a_function_s_convention_is_found(function):
    assert convention(NullClassDenoiser(DenoiserFunction(function, (2,), 4))) == RECORD


def test_data_in_other_units_have_the_schedule_in_their_own():
    """Images of [0, 1] that are asked for in [-1, 1]: twice the noise at each step."""
    teacher = DenoiserFunction(Rescaled(RECORD, 2.0, -1.0), (2,), 4)
    found = own_schedule(teacher)
    compiled = DenoiserFunction(Rescaled(eqx.filter_jit(RECORD), 2.0, -1.0), (2,), 4)
    assert own_schedule(compiled) == found
    assert convention(compiled).predicts_noise
    np.testing.assert_allclose(found.sigmas, 2 * SCHEDULE.sigmas, rtol=1e-9)
    np.testing.assert_allclose(found.time(2 * SCHEDULE.sigmas[300]), 300, atol=1e-3)
    draws = sample(jax.random.key(1), teacher, 2, jnp.array([1, 2]), DDIMSampler(10))
    np.testing.assert_allclose(draws, [[1.0, 1.0], [3.0, 3.0]], atol=1e-2)  # 2 label - 1


def test_a_copy_is_unguided_wherever_the_guidance_is():
    assert unguided(NullClassDenoiser(Guided(INNER, TWICE))) == NullClassDenoiser(INNER)
    assert guidance_of(NullClassDenoiser(Guided(INNER, TWICE))) == TWICE
    assert guidance_of(NullClassDenoiser(INNER)) is None


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (NullClassDenoiser(DenoiserFunction(FlowClean(eps), (2,), 4)), r"this DenoiserFunction, FlowClean, has none"),
        (Guided(DenoiserFunction(VEScore(eps), (2,), 4), TWICE), r"this DenoiserFunction, VEScore, has none"),
        (GaussianMixture([[0.0]], 1.0), r"this GaussianMixture, has none"),
    ],
)
def test_what_has_no_steps_is_named_by_the_network_s_own_terms(teacher, words):
    with pytest.raises(TeacherError, match=words):
        own_schedule(teacher)


@pytest.mark.parametrize("record", [RECORD, VPVelocity(eps, SCHEDULE), VPClean(eps, SCHEDULE)])
@pytest.mark.parametrize("wrap", [NullClassDenoiser, lambda inner: Guided(inner, TWICE)])
def test_missing_classes_are_what_the_message_names(record, wrap):
    with pytest.raises(TeacherError, match=r"=None\. Say it: DenoiserFunction\(function, shape, condition=<"):
        wrap(DenoiserFunction(record, (2,)))


@pytest.mark.parametrize("kind", [DenoiserFunction, ScoreFunction])
def test_a_function_and_its_classes_fit_together(kind):
    with pytest.raises(TeacherError, match=f"condition= is missing.*{kind.__name__}\\(function, shape, cond"):
        kind(lambda x, sigma, label: x, (2,))
    with pytest.raises(TeacherError, match=r"was given condition=Classes\(count=3\), and its function takes none"):
        kind(lambda x, sigma: x, (2,), 3)
    with pytest.raises(TeacherError, match=r"does not take \(x_sigma, sigma\)"):
        kind(lambda x: x, (2,))
    assert kind(lambda *any_number: any_number[0], (2,), 3).classes == 3
