"""Denoisers of diffusers' schedulers, against diffusers: python tests/benchmarks/schedulers.py.

Needs `pip install diffusers torch`, which pplemd does not. A small UNet2DModel with random weights is evaluated at the
noise levels and time steps that each scheduler visits; what the scheduler makes of its output is compared with what
the imported denoiser says of the same noisy images. The largest difference over the largest value, in 32 bits.
"""

import json
from collections.abc import Callable
from typing import Any

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import torch

from pplemd.importers import diffusers_denoiser

SIZE, STEPS = 8, 7
VPS = ("EulerDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler", "EulerAncestralDiscreteScheduler")
SOLVERS = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler")


def network(**options: Any) -> diffusers.UNet2DModel:
    """A network whose every layer matters."""
    made = diffusers.UNet2DModel(
        sample_size=SIZE, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8, **options,
    ).eval()  # fmt: skip
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    return made


def imported(net: diffusers.UNet2DModel, scheduler: Any) -> Callable[[np.ndarray, float], np.ndarray]:
    """The denoiser of a network with a scheduler's configuration, for images of one sigma, channels first."""
    config = {name: list(value) if isinstance(value, tuple) else value for name, value in net.config.items()}
    said = {"_class_name": type(scheduler).__name__, **json.loads(scheduler.to_json_string())}
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    denoiser = diffusers_denoiser({"_class_name": "UNet2DModel", **config, "scheduler": said}, arrays)
    evaluated = jax.jit(jax.vmap(lambda x, sigma: denoiser.denoise(x, sigma, None), in_axes=(0, None)))

    def denoise(x: np.ndarray, sigma: float) -> np.ndarray:
        found = evaluated(jnp.asarray(x.transpose(0, 2, 3, 1), jnp.float32), jnp.float32(sigma))
        return np.asarray(found).transpose(0, 3, 1, 2)

    return denoise


def noisy(sigma: float) -> torch.Tensor:
    """x + sigma eps."""
    return 0.5 * torch.randn(2, 3, SIZE, SIZE) + sigma * torch.randn(2, 3, SIZE, SIZE)


def visited(scheduler: Any) -> list[tuple[int, float, Any]]:
    """Each step's number, sigma and time."""
    scheduler.set_timesteps(STEPS)
    sigmas = [float(sigma) for sigma in scheduler.sigmas]
    return [(i, sigmas[i], time) for i, time in enumerate(scheduler.timesteps) if sigmas[i] > 0]


def by_scaling(net: Any, scheduler: Any, i: int, sigma: float, time: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Schedulers that see x + sigma eps, and scale it for the network."""
    x, scheduler._step_index = noisy(sigma), i
    out = net(scheduler.scale_model_input(x, time), time).sample
    if scheduler.config.prediction_type == "epsilon":
        return x, x - sigma * out
    return x, x / (sigma**2 + 1) - sigma / (sigma**2 + 1) ** 0.5 * out


def by_solving(net: Any, scheduler: Any, i: int, sigma: float, time: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Schedulers that see alpha x + sigma_t eps, and convert the output themselves."""
    x, scheduler._step_index = noisy(sigma), i
    scaled = x / (1 + sigma**2) ** 0.5
    return x, scheduler.convert_model_output(net(scaled, time).sample, sample=scaled)


def by_edm(net: Any, scheduler: Any, i: int, sigma: float, time: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """EDM's preconditioning."""
    x, level, scheduler._step_index = noisy(sigma), torch.tensor(sigma), i
    out = net(scheduler.precondition_inputs(x, level), time).sample
    return x, scheduler.precondition_outputs(x, out, level)


def by_flow(net: Any, scheduler: Any, i: int, share: float, time: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(1 - s) x + s eps, whose slope is eps - x."""
    mixed = noisy(share / (1 - share)) * (1 - share)
    return mixed / (1 - share), mixed - share * net(mixed, time).sample


def worst(net: Any, scheduler: Any, rule: Callable[..., tuple[torch.Tensor, torch.Tensor]]) -> float:
    """The largest difference over a scheduler's steps."""
    denoise, found = imported(net, scheduler), 0.0
    for i, sigma, time in visited(scheduler):
        if rule is by_flow and sigma >= 1:
            continue  # noise alone
        x, theirs = (value.numpy() for value in rule(net, scheduler, i, sigma, time))
        ours = denoise(x, sigma / (1 - sigma) if rule is by_flow else sigma)
        found = max(found, float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    return found


def worst_score(net: Any) -> float:
    """ScoreSdeVe: a network that is the score of images in [0, 1]."""
    denoise, found = imported(net, diffusers.ScoreSdeVeScheduler()), 0.0
    for sigma in (0.01, 0.1, 1.0, 10.0, 50.0):
        x = torch.rand(2, 3, SIZE, SIZE) + sigma * torch.randn(2, 3, SIZE, SIZE)
        theirs = (2 * (x + sigma**2 * net(x, torch.full((2,), sigma)).sample) - 1).numpy()
        ours = denoise((2 * x - 1).numpy(), 2 * sigma)
        found = max(found, float(np.abs(ours - theirs).max() / np.abs(theirs).max()))
    return found


@torch.no_grad()
def main() -> None:
    """Compare, and print a line for each."""
    torch.manual_seed(0)
    diffusers.utils.logging.set_verbosity_error()
    net = network()
    cases = [(name, {"prediction_type": kind}, by_scaling) for name in VPS for kind in ("epsilon", "v_prediction")]
    cases += [
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, by_scaling),
        ("EulerDiscreteScheduler", {"timestep_spacing": "trailing", "beta_schedule": "scaled_linear"}, by_scaling),
        *((name, {"prediction_type": kind}, by_solving) for name in SOLVERS for kind in ("epsilon", "sample")),
        ("DPMSolverMultistepScheduler", {"beta_schedule": "squaredcos_cap_v2"}, by_solving),
        ("EDMEulerScheduler", {"sigma_data": 0.7}, by_edm),
        ("EDMDPMSolverMultistepScheduler", {}, by_edm),
        *(("FlowMatchEulerDiscreteScheduler", {"shift": shift}, by_flow) for shift in (1.0, 3.0)),
        ("FlowMatchHeunDiscreteScheduler", {}, by_flow),
    ]
    for name, options, rule in cases:
        print(f"{name} {options}: {worst(net, getattr(diffusers, name)(**options), rule):.1e}", flush=True)
    print(f"ScoreSdeVeScheduler: {worst_score(network(time_embedding_type='fourier')):.1e}")


if __name__ == "__main__":
    main()
