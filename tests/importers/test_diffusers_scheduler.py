"""Schedulers' conventions: one small network, as each of them would have it read."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from diffusers_look_alikes import SMALL, configuration, random_weights

from pplemd.diffusion import FlowVelocity, VEScore, VPClean, VPEps, VPVelocity, linear_schedule, precondition
from pplemd.errors import ImporterError, TeacherError
from pplemd.importers import diffusers_denoiser, unet_2d
from pplemd.importers.diffusers_scheduler import convention, ddim_sampler, schedule
from pplemd.learning.denoising import default_weight
from pplemd.teachers import DDIMSampler, DenoiserFunction, HeunSampler, own_schedule

STEP = 400
WEIGHTS = random_weights(SMALL)
X = jnp.asarray(np.random.default_rng(3).standard_normal((8, 8, 3)), jnp.float32)


@eqx.filter_jit
def run(network, x, time):
    return network(x, time)


@eqx.filter_jit
def denoised(teacher, x, sigma):
    return teacher.denoise(x, sigma)


def raw(x, time) -> jax.Array:
    return run(unet_2d(SMALL, WEIGHTS), x, jnp.asarray(time, jnp.float32))


def vp(kind: str, sigma: jax.Array) -> jax.Array:
    """At a whole step."""
    alpha = 1 / jnp.sqrt(1 + sigma**2)
    out = raw(alpha * X, STEP)
    return {"epsilon": X - sigma * out, "sample": out, "v_prediction": alpha**2 * X - alpha * sigma * out}[kind]


@pytest.mark.slow_for("config0-epsilon")
@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({}, "epsilon"),
        ({"_class_name": "DDIMScheduler", "prediction_type": "sample"}, "sample"),
        ({"_class_name": "DDPMScheduler", "predict_epsilon": False}, "sample"),
        ({"_class_name": "PNDMScheduler", "prediction_type": "v_prediction"}, "v_prediction"),
        ({"beta_schedule": "squaredcos_cap_v2"}, "epsilon"),
    ],
)
def test_variance_preserving(config: dict, kind: str) -> None:
    teacher = diffusers_denoiser(SMALL | {"scheduler": config}, WEIGHTS)
    sigma = jnp.asarray(schedule(config).sigmas[STEP], jnp.float32)
    np.testing.assert_allclose(denoised(teacher, X, sigma), vp(kind, sigma), rtol=1e-4, atol=1e-4)
    assert own_schedule(teacher) == schedule(config)


@pytest.mark.parametrize(
    ("config", "by_hand"),
    [
        ({}, lambda network: VPEps(network, linear_schedule())),
        ({"prediction_type": "v_prediction"}, lambda network: VPVelocity(network, linear_schedule())),
        ({"prediction_type": "sample"}, lambda network: VPClean(network, linear_schedule())),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, FlowVelocity),
        ({"_class_name": "ScoreSdeVeScheduler"}, VEScore),
    ],
)
def test_the_weight_is_that_of_the_same_network_wrapped_by_hand(config, by_hand) -> None:
    network = unet_2d(SMALL, None)
    wrapped = DenoiserFunction(by_hand(network), network.shape)
    sigmas = jnp.array([0.02, 0.1, 1.0, 10.0])
    found = default_weight(diffusers_denoiser(SMALL | {"scheduler": config}, None))(sigmas)
    np.testing.assert_allclose(default_weight(wrapped)(sigmas), found)
    clean = config.get("prediction_type") == "sample"
    np.testing.assert_allclose(found, 1 / (sigmas**2 + 0.25) if clean else 1 / sigmas**2 + 4, rtol=1e-6)


def test_between_steps_the_time_is_a_fraction() -> None:
    teacher = diffusers_denoiser(SMALL, WEIGHTS)
    low, high = own_schedule(teacher).sigmas[[STEP, STEP + 1]]
    sigma = jnp.asarray(np.sqrt(low * high), jnp.float32)
    expected = X - sigma * raw(X / jnp.sqrt(1 + sigma**2), STEP + 0.5)
    np.testing.assert_allclose(denoised(teacher, X, sigma), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_scores_of_images_from_0_to_1() -> None:
    config = configuration("skips")
    weights = random_weights(config)
    teacher = diffusers_denoiser(config | {"scheduler": {"_class_name": "ScoreSdeVeScheduler"}}, weights)
    sigma = jnp.asarray(0.8)
    unit = (X + 1) / 2
    score = run(unet_2d(config, weights), unit, sigma / 2)
    expected = 2 * (unit + (sigma / 2) ** 2 * score) - 1
    np.testing.assert_allclose(denoised(teacher, X, sigma), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_edm_and_flow() -> None:
    sigma = jnp.asarray(0.7)
    edm = {"_class_name": "EDMEulerScheduler", "sigma_data": 0.6}
    at = precondition(sigma, 0.6)
    expected = at.skip * X + at.out * raw(at.scale_in * X, at.noise)
    found = denoised(diffusers_denoiser(SMALL | {"scheduler": edm}, WEIGHTS), X, sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 500}
    s = sigma / (1 + sigma)  # x_s = (1 - s) x + s eps = (1 - s) x_sigma; the network is eps - x
    expected = (1 - s) * X - s * raw((1 - s) * X, 500 * s)
    found = denoised(diffusers_denoiser(SMALL | {"scheduler": flow}, WEIGHTS), X, sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_schedules_by_name() -> None:
    betas = [0.1, 0.2, 0.4]
    np.testing.assert_allclose(schedule({"trained_betas": betas}).alphas_cumprod, [0.9, 0.72, 0.432])
    assert "3 steps of trained betas" in convention({"trained_betas": betas})
    for name in ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"):
        assert len(schedule({"beta_schedule": name, "num_train_timesteps": 50}).sigmas) == 50
    assert schedule({"rescale_betas_zero_snr": True}).span[1] > 1000


def test_ddim_is_what_the_scheduler_says() -> None:
    assert ddim_sampler({}, 10) == DDIMSampler(10, clip=1.0)
    said = {"clip_sample": False, "timestep_spacing": "trailing", "steps_offset": 1, "set_alpha_to_one": False}
    assert ddim_sampler(said, 5) == DDIMSampler(5, "trailing", 1, False, None)
    with pytest.raises(ImporterError, match="thresholding=True; expected false.*Heun"):
        ddim_sampler({"thresholding": True}, 5)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("steps", [7, 30, 48, 50])
def test_ddim_is_that_of_the_pipeline(spacing: str, to_one: bool, steps: int) -> None:
    """x_t' = sqrt(a') clip(x) + sqrt(1 - a') eps, a' of T // steps time steps before; x_t' is what comes next."""
    said = {"timestep_spacing": spacing, "set_alpha_to_one": to_one, "beta_start": 0.00085, "beta_end": 0.012}
    noise_of = lambda x_t, t, label=None: 0.8 * jnp.tanh(x_t) + 0.1 * jnp.cos(t / 100)  # noqa: E731
    teacher = DenoiserFunction(VPEps(noise_of, schedule(said)), (3,))
    start = np.array([0.3, -1.2, 2.0])
    alphas, x_t = np.cumprod(1 - np.linspace(0.00085, 0.012, 1000)), start
    chosen = {
        "leading": np.arange(steps)[::-1] * (1000 // steps),
        "trailing": np.round(np.arange(1000, 0, -1000 / steps)) - 1,
        "linspace": np.linspace(0, 999, steps).round()[::-1],
    }
    for time in chosen[spacing].astype(int):
        before = time - 1000 // steps
        a, a_next = alphas[time], alphas[before] if before >= 0 else 1.0 if to_one else alphas[0]
        eps = 0.8 * np.tanh(x_t) + 0.1 * np.cos(time / 100)
        x_t = np.sqrt(a_next) * np.clip((x_t - np.sqrt(1 - a) * eps) / np.sqrt(a), -1, 1) + np.sqrt(1 - a_next) * eps
    np.testing.assert_allclose(ddim_sampler(said, steps).solve(jnp.asarray(start), teacher), x_t, atol=2e-5)


@pytest.mark.parametrize(
    "said",
    [
        {"use_flow_sigmas": True, "_class_name": "DPMSolverMultistepScheduler"},
        {"timestep_type": "continuous", "prediction_type": "v_prediction", "_class_name": "EulerDiscreteScheduler"},
    ],
)
def test_other_conventions_under_a_known_name_are_refused(said: dict) -> None:
    with pytest.raises(ImporterError, match=f"says {next(iter(said))}="):
        diffusers_denoiser(SMALL | {"scheduler": said}, None)


@pytest.mark.slow
def test_ddim_without_clipping_follows_heun() -> None:
    """Both solve one equation, with few evaluations and with many; and only a network of steps has DDIM's."""
    teacher = diffusers_denoiser(SMALL, WEIGHTS)
    sampler, start = DDIMSampler(250, "trailing"), X
    low, high = own_schedule(teacher).span
    fine = eqx.filter_jit(lambda x: sampler.solve(x, teacher))(start)
    scale = np.sqrt(1 + high**2) / high  # DDIM starts at x_t = noise, Heun at sigma noise
    heun = eqx.filter_jit(lambda x: HeunSampler(200, low, high).solve(x, teacher))(scale * start)
    assert np.abs(fine - heun).max() / np.abs(heun).max() < 0.1
    flow = diffusers_denoiser(SMALL | {"scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler"}}, None)
    with pytest.raises(TeacherError, match=r"Preconditioned, StepFlow, has none\. Use Heun"):
        own_schedule(flow)
