"""What a scheduler_config.json of diffusers says of a network's convention, and the denoiser that follows from it."""

from collections.abc import Mapping
from typing import Any

from pplemd.diffusion import (
    SPACINGS,
    Prediction,
    Rescaled,
    StepFlow,
    StepVP,
    VEScore,
    VPSchedule,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    schedule_of,
    sigmoid_betas,
)
from pplemd.errors import ImporterError
from pplemd.importers.filling import Arguments
from pplemd.networks import UNet2DModel
from pplemd.teachers import AbstractDenoiser, DDIMSampler, Denoiser, DenoiserFunction, Preconditioned

OWNER = "a diffusers scheduler"
DDPM = "DDPMScheduler"
VP = (  # samplers of one convention, by time steps of a schedule of betas
    DDPM, "DDIMScheduler", "DDIMParallelScheduler", "DDPMParallelScheduler", "DDIMInverseScheduler", "PNDMScheduler",
    "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DPMSolverMultistepInverseScheduler",
    "DPMSolverSDEScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DEISMultistepScheduler",
    "UniPCMultistepScheduler", "RePaintScheduler", "SASolverScheduler",
)  # fmt: skip
VE = ("ScoreSdeVeScheduler", "KarrasVeScheduler")  # of pipelines whose images are in [0, 1]
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
PREDICTED = {
    Prediction.EPS: "eps",
    Prediction.CLEAN: "x",
    Prediction.VELOCITY: "v = alpha_t eps - sqrt(1 - alpha_t^2) x",
}
MOST_STEPS = 100_000  # of a schedule


def denoiser(network: UNet2DModel, config: Mapping[str, Any]) -> AbstractDenoiser:
    """Return the denoiser in terms of sigma that a network with its scheduler is.

    A network given time steps is evaluated at the fractional one whose log(sigma) is that of the noise, linear between
    whole ones, and at the first or last one beyond them; its waves take fractions as they are.

    Args:
        network: the network, its weights in place or blank.
        config: scheduler_config.json, its `_class_name` among it; that of DDPM where it is empty.

    Raises:
        ImporterError: an entry of the wrong kind, or a scheduler whose convention pplemd does not have.
        RecipeError: betas of no schedule.

    Source: arXiv:2010.02502, section 4.3 (a variance-preserving network in terms of sigma); arXiv:2206.00364,
        appendix C.3 (continuous sigma for one trained at steps, rounded there, interpolated here).
    """
    kind, given = scheduler_class(config), Arguments(config, OWNER)
    if kind in EDM:
        given.one_of("prediction_type", "epsilon", ("epsilon",))
        return Denoiser(network, given.number("sigma_data", 0.5))
    if kind in FLOW:
        return Preconditioned(network, StepFlow(given.whole("num_train_timesteps", 1000)))
    if kind in VE:
        return DenoiserFunction(Rescaled(VEScore(network), 2.0, -1.0), network.shape, network.condition)
    if given.flag("use_flow_sigmas", False):
        raise given.wrong("use_flow_sigmas", "false, noise levels of its betas")
    if prediction(config) is Prediction.VELOCITY and given.given.get("timestep_type") == "continuous":
        raise given.wrong("timestep_type", "discrete, a network that is told time steps")
    return Preconditioned(network, StepVP(schedule(config), prediction(config)))


def convention(config: Mapping[str, Any]) -> str:
    """Say in a line in what terms a network with its scheduler speaks of noise and images.

    Raises:
        ImporterError: as `denoiser` does.
    """
    kind, given = scheduler_class(config), Arguments(config, OWNER)
    if kind in EDM:
        return f"{kind}: x_sigma = x + sigma eps, images in [-1, 1], sigma_data {given.number('sigma_data', 0.5)}"
    if kind in VE:
        return f"{kind}: x_sigma = x + sigma eps, predicts the score, images in [0, 1]"
    if kind in FLOW:
        return f"{kind}: x_t = (1 - s) x + s eps, predicts eps - x, images in [-1, 1]"
    said = kind if config else f"no scheduler_config.json, so that of {kind} is taken"
    return (
        f"{said}: x_t = alpha_t x + sqrt(1 - alpha_t^2) eps, predicts {PREDICTED[prediction(config)]}, "
        f"{_steps(given):,} steps of {_beta_schedule(given)} betas, images in [-1, 1]"
    )


def assumed(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what of a network's convention no scheduler says, a sentence each."""
    if not config:
        return (
            "no scheduler_config.json was found, so DDPM's usual convention is assumed (DDPMScheduler, 1,000 linear "
            "steps, epsilon), and any other would be read wrong; put the one that the network was trained with beside "
            "it",
        )
    if "_class_name" not in config:
        return (f"scheduler_config.json does not name its class, so {DDPM} is assumed",)
    return ()


def scheduler_class(config: Mapping[str, Any]) -> str:
    """Return the scheduler's class.

    Raises:
        ImporterError: where its convention is unknown.
    """
    found = config.get("_class_name", DDPM)
    if found not in (*VP, *VE, *EDM, *FLOW):
        raise ImporterError(
            f"the scheduler is a {ascii(str(found))[:60]}; expected one of {', '.join((*VP, *VE, *EDM, *FLOW))}. Put "
            "the scheduler_config.json that the network was trained with there, or wrap the network in "
            "em.teachers.DenoiserFunction."
        )
    return str(found)


def prediction(config: Mapping[str, Any]) -> Prediction:
    """Return what a variance-preserving network predicts.

    Raises:
        ImporterError: where it is something else.
    """
    given = Arguments(config, OWNER)
    old = "epsilon" if given.flag("predict_epsilon", True) else "sample"  # of 2022
    return Prediction(given.one_of("prediction_type", old, [kind.value for kind in Prediction]))


def schedule(config: Mapping[str, Any]) -> VPSchedule:
    """Return the schedule of a variance-preserving scheduler.

    Raises:
        ImporterError: an entry of the wrong kind.
        RecipeError: betas of no schedule.
    """
    given = Arguments(config, OWNER)
    kind, steps, zero = _beta_schedule(given), _steps(given), given.flag("rescale_betas_zero_snr", False)
    low, high = given.number("beta_start", 0.0001), given.number("beta_end", 0.02)
    if kind == "trained":
        return schedule_of(given.numbers("trained_betas", ()), zero)
    betas = {
        "linear": lambda: linear_betas(steps, low, high),
        "scaled_linear": lambda: scaled_linear_betas(steps, low, high),
        "squaredcos_cap_v2": lambda: cosine_betas(steps),
        "sigmoid": lambda: sigmoid_betas(steps, low, high),
    }
    return schedule_of(betas[kind](), zero)


def ddim_sampler(config: Mapping[str, Any], steps: int) -> DDIMSampler:
    """Return DDIM as the original would sample with this scheduler's entries, from unit noise.

    Args:
        config: scheduler_config.json.
        steps: number of time steps.

    Raises:
        ImporterError: an entry of the wrong kind, or thresholds that each sample sets.
    """
    given = Arguments(config, OWNER)
    if given.flag("thresholding", False):
        raise given.wrong("thresholding", "false: DDIM clips at clip_sample_range here. Or sample by Heun's method")
    clip = given.number("clip_sample_range", 1.0) if given.flag("clip_sample", True) else None
    spacing = given.one_of("timestep_spacing", "leading", SPACINGS)
    to_zero = given.flag("set_alpha_to_one", True)
    return DDIMSampler(steps, spacing, given.whole("steps_offset", 0), to_zero, clip)


def _steps(given: Arguments) -> int:
    if given.given.get("trained_betas") is not None:
        return len(given.numbers("trained_betas", ()))
    found = given.whole("num_train_timesteps", 1000)
    if not 2 <= found <= MOST_STEPS:
        raise given.wrong("num_train_timesteps", f"an integer from 2 to {MOST_STEPS}")
    return found


def _beta_schedule(given: Arguments) -> str:
    if given.given.get("trained_betas") is not None:
        return "trained"
    return given.one_of("beta_schedule", "linear", ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"))
