"""The denoising loss against its closed form for a Gaussian and a linear denoiser."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.conditions import AbstractCondition
from pplemd.diffusion import (
    CoarseToFine,
    ContinuousVP,
    DiscreteVP,
    EDMWeight,
    FlowClean,
    FlowVelocity,
    InverseVarianceWeight,
    LogUniform,
    PlainVE,
    PowerWeight,
    Prediction,
    Rescaled,
    StepFlow,
    StepVP,
    UniformWeight,
    VEScore,
    VPClean,
    VPEps,
    VPVelocity,
    linear_schedule,
    precondition,
)
from pplemd.learning import denoising_loss
from pplemd.learning.denoising import default_weight, drawn_noise, matching_loss
from pplemd.networks import ResidualMLP
from pplemd.teachers import (
    AbstractDenoiser,
    Denoiser,
    DenoiserFunction,
    Guidance,
    Guided,
    NullClassDenoiser,
    Preconditioned,
)

SIGMAS = jnp.array([0.02, 0.1, 1.0, 10.0])
COUNT, STD, SIGMA, DIM = 20_000, 0.7, 0.5, 2


class Shrink(AbstractDenoiser):
    """D = c x_sigma, c by label; with a key it adds noise, as dropout would."""

    factor: jax.Array
    shape: tuple[int, ...] = eqx.field(static=True, default=(DIM,))
    condition: AbstractCondition | None = None

    def denoise(self, x_sigma, sigma, label=None, key=None):
        noise = 0.0 if key is None else jax.random.normal(key, x_sigma.shape)
        return (self.factor if label is None else self.factor[label]) * x_sigma + noise

    def score(self, x_sigma, sigma, label=None):
        raise NotImplementedError


X = STD * jax.random.normal(jax.random.key(0), (COUNT, DIM))
POSTERIOR = STD**2 / (STD**2 + SIGMA**2)
loss_and_slope = eqx.filter_jit(eqx.filter_value_and_grad(denoising_loss))


def expected(factor, sigma):
    """E |c (x + sigma eps) - x|^2 / dim."""
    return (factor - 1) ** 2 * STD**2 + factor**2 * sigma**2


@pytest.mark.parametrize("factor", [POSTERIOR, 0.2, 1.0])
def test_loss_and_gradient_are_the_known_ones(factor):
    sigma, weighting = jnp.full(COUNT, SIGMA), EDMWeight(0.9)
    weight = 1 / SIGMA**2 + 1 / 0.9**2
    loss, slope = loss_and_slope(Shrink(jnp.asarray(factor)), jax.random.key(1), X, sigma, None, weighting)
    variance = expected(factor, SIGMA)  # of one entry of the error, which is normal
    assert abs(float(loss) - weight * variance) < 4 * weight * variance * np.sqrt(2 / (COUNT * DIM))
    derivative = 2 * weight * ((factor - 1) * STD**2 + factor * SIGMA**2)
    error = 2 * weight * np.sqrt(variance * (STD**2 + SIGMA**2) + (derivative / 2 / weight) ** 2) / np.sqrt(COUNT * DIM)
    assert abs(float(slope.factor) - derivative) < 4 * error
    assert (abs(derivative) < 1e-12) == (factor == POSTERIOR)  # least at the posterior mean


def test_each_sample_has_its_own_sigma_weight_and_label():
    labels = jnp.arange(COUNT, dtype=jnp.int32) % 2
    factors, sigmas = np.array([0.3, 0.8]), np.array([0.2, 1.5])
    sigma = jnp.asarray(sigmas, jnp.float32)[labels]
    loss, _ = loss_and_slope(
        Shrink(jnp.asarray(factors, jnp.float32)), jax.random.key(2), X, sigma, labels, PowerWeight(-2.0)
    )
    terms = expected(factors, sigmas) / sigmas**2
    assert abs(float(loss) - terms.mean()) < 4 * terms.max() * np.sqrt(2 / (COUNT * DIM))


def test_dropout_gives_each_sample_a_key_of_its_own():
    one, zero = Shrink(jnp.asarray(0.0)), jnp.zeros((COUNT, DIM))
    quiet = denoising_loss(one, jax.random.key(3), zero, jnp.ones(COUNT), None, UniformWeight())
    noisy = denoising_loss(one, jax.random.key(3), zero, jnp.ones(COUNT), None, UniformWeight(), dropout=True)
    assert float(quiet) == 0
    assert abs(float(noisy) - 1) < 4 * np.sqrt(2 / (COUNT * DIM))  # equal keys would leave an error of order 1


def noised_loss(denoiser, key, x, labels, noise, progress):
    """The loss at drawn noise levels, put together as a step of training does."""
    sigmas, weighting = noise
    drawn, _ = drawn_noise(key, x.shape, sigmas, progress)
    return matching_loss(denoiser, x, drawn, labels, weighting or default_weight(denoiser))


@pytest.mark.parametrize(
    ("sigmas", "progress", "sigma"),
    [(LogUniform(2.0, 2.0001), 0.0, 2.0)]
    + [(CoarseToFine((1.0, 1.0001), (0.1, 0.10001), 1.0), progress, 10**-progress) for progress in (0.0, 0.5, 1.0)],
)
def test_noise_levels_follow_their_law_and_the_progress(sigmas, progress, sigma):
    loss = noised_loss(
        Shrink(jnp.asarray(1.0)), jax.random.key(4), X, None, (sigmas, UniformWeight()), jnp.asarray(progress)
    )
    assert abs(float(loss) / sigma**2 - 1) < 4 * np.sqrt(2 / (COUNT * DIM)) + 1e-3


@pytest.mark.slow
def test_the_default_weight_is_edm_s_for_the_denoiser():
    network = ResidualMLP((DIM,), width=8, blocks=1, key=jax.random.key(0))  # 0 at the start: D = skip x_sigma
    denoiser, sigmas, key = Denoiser(network, 0.4), LogUniform(0.2, 3.0), jax.random.key(5)
    found = noised_loss(denoiser, key, X, None, (sigmas, None), jnp.zeros(()))
    given = noised_loss(denoiser, key, X, None, (sigmas, EDMWeight(0.4)), jnp.zeros(()))
    other = noised_loss(denoiser, key, X, None, (sigmas, EDMWeight(0.5)), jnp.zeros(()))
    assert float(found) == float(given) != float(other)


def test_without_sigma_data_the_weight_stays_bounded_where_the_error_may():
    key, sigmas = jax.random.key(0), LogUniform(0.1, 1.0)
    losses = [
        noised_loss(Shrink(jnp.asarray(1.0)), key, X, None, (sigmas, weighting), jnp.zeros(()))
        for weighting in (None, InverseVarianceWeight(0.5), EDMWeight(0.5))
    ]
    assert float(losses[0]) == float(losses[1]) != float(losses[2])
    network = ResidualMLP((DIM,), width=8, blocks=1, key=jax.random.key(0))
    assert default_weight(Preconditioned(network, PlainVE())) == EDMWeight(0.5)
    by_prediction = [default_weight(Preconditioned(network, StepVP(linear_schedule(), kind))) for kind in Prediction]
    wanted = {Prediction.CLEAN: InverseVarianceWeight(0.5)}
    assert by_prediction == [wanted.get(kind, EDMWeight(0.5)) for kind in Prediction]


NETWORK = ResidualMLP((DIM,), width=8, blocks=1, classes=3, key=jax.random.key(0))
NOISE, CLEAN = 1 / SIGMAS**2 + 1 / 0.5**2, 1 / (SIGMAS**2 + 0.5**2)


@pytest.mark.parametrize(
    ("function", "by_coefficients", "wanted"),
    [
        (VPEps(NETWORK, linear_schedule()), StepVP(linear_schedule()), NOISE),
        (VPVelocity(NETWORK, linear_schedule()), StepVP(linear_schedule(), Prediction.VELOCITY), NOISE),
        (VPClean(NETWORK, linear_schedule()), StepVP(linear_schedule(), Prediction.CLEAN), CLEAN),
        (FlowVelocity(NETWORK), StepFlow(), NOISE),
        (VEScore(NETWORK), PlainVE(), NOISE),
        (Rescaled(VPEps(NETWORK, linear_schedule()), 2.0, -1.0), ContinuousVP(), NOISE),
        (eqx.filter_jit(VPEps(NETWORK, linear_schedule())), DiscreteVP((1.0, 0.0)), NOISE),
        (Denoiser(NETWORK, 0.5).denoise, None, NOISE),
    ],
)
def test_a_network_has_one_weight_however_it_became_a_denoiser(function, by_coefficients, wanted):
    by_hand = DenoiserFunction(function, (DIM,), 3)
    other = Denoiser(NETWORK, 0.5) if by_coefficients is None else Preconditioned(NETWORK, by_coefficients)
    for teacher in (by_hand, other, NullClassDenoiser(Guided(by_hand, Guidance(2.0))), Guided(other, Guidance(2.0))):
        np.testing.assert_allclose(default_weight(teacher)(SIGMAS), wanted, rtol=1e-6)


@pytest.mark.parametrize("function", [FlowClean(NETWORK), Rescaled(FlowClean(NETWORK), 2.0, -1.0), lambda x, sigma: x])
def test_of_a_prediction_of_x_and_of_what_is_not_known_the_weight_is_bounded(function):
    np.testing.assert_allclose(default_weight(DenoiserFunction(function, (DIM,)))(SIGMAS), CLEAN, rtol=1e-6)


def test_the_weight_is_constant_in_the_space_of_the_network():
    """w out^2: 1 at every level for EDM's; at small ones for a network that predicts the noise."""
    out = jax.vmap(lambda sigma: precondition(sigma, 0.7).out)(SIGMAS)
    np.testing.assert_allclose(default_weight(Denoiser(NETWORK, 0.7))(SIGMAS) * out**2, 1, rtol=1e-5)
    by_step = (StepVP(linear_schedule(), kind) for kind in (Prediction.EPS, Prediction.VELOCITY))
    for coefficients in (*by_step, StepFlow(), PlainVE()):
        low = jnp.asarray(0.01)
        found = default_weight(Preconditioned(NETWORK, coefficients))(low) * coefficients.at(low).out ** 2
        np.testing.assert_allclose(found, 1, atol=0.03)


def test_the_default_weight_of_a_wrapped_denoiser_is_its_own():
    network = ResidualMLP((2,), 8, 1, classes=3, key=jax.random.key(0))
    denoiser = Denoiser(network, 0.7)
    assert default_weight(NullClassDenoiser(denoiser)) == EDMWeight(0.7)
    assert default_weight(Guided(denoiser, Guidance(2.0))) == EDMWeight(0.7)
