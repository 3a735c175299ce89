"""Folders in the exact form of diffusers', of small networks with random weights, written without it."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from look_alikes import state_dict_zip

from pplemd.importers import blank
from pplemd.importers.diffusers import constants, options, slots
from pplemd.importers.weights import write_safetensors
from pplemd.networks import UNet2DModel

SMALL = {
    "_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 3, "out_channels": 3, "layers_per_block": 1,
    "block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "norm_num_groups": 4, "attention_head_dim": 4,
}  # fmt: skip
SCHEDULER = {"_class_name": "DDPMScheduler", "beta_start": 0.0001, "beta_end": 0.02, "num_train_timesteps": 1000}
SKIPS = {
    "down_block_types": ["SkipDownBlock2D", "AttnSkipDownBlock2D"], "norm_num_groups": None, "norm_eps": 1e-6,
    "up_block_types": ["AttnSkipUpBlock2D", "SkipUpBlock2D"], "block_out_channels": [32, 32],
    "time_embedding_type": "fourier", "mid_block_scale_factor": 1.4142, "center_input_sample": True,
}  # fmt: skip
VARIANTS = {  # what tells a configuration from SMALL
    "plain": {},
    "one head, padded as DDPM": {"attention_head_dim": None, "downsample_padding": 0, "freq_shift": 1},
    "sines first, wide time": {"flip_sin_to_cos": False, "time_embedding_dim": 24, "act_fn": "mish"},
    "classes": {"num_class_embeds": 5},
    "classes as times": {"class_embed_type": "timestep", "act_fn": "gelu"},
    "modulated": {"resnet_time_scale_shift": "scale_shift", "downsample_type": "resnet", "upsample_type": "resnet"},
    "modulated, with a norm": {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 2},
    "blocks resize": {
        "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    },
    "learnt times": {"time_embedding_type": "learned", "num_train_timesteps": 20},
    "no middle": {"mid_block_type": None, "layers_per_block": 2},
    "no attention": {"add_attention": False, "down_block_types": ["DownBlock2D"] * 2, "act_fn": "relu"},
    "not square, one channel": {"sample_size": [4, 8], "in_channels": 1, "out_channels": 1},
    "learnt variance": {"out_channels": 6},
    "three levels": {
        "block_out_channels": [8, 8, 16], "down_block_types": ["AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    },
    "skips": SKIPS,
}  # fmt: skip


def configuration(name: str) -> dict[str, Any]:
    return SMALL | VARIANTS[name]


def random_weights(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Of the names and shapes that a network has, by today's names."""
    draw, network = np.random.default_rng(seed), blank(lambda: UNet2DModel(options(config), key=jax.random.key(0)))
    shapes = {slot.key: _original(slot) for slot in slots(network, {})}
    found = {key: _drawn(draw, key, shape) for key, shape in shapes.items()}
    return found | {each.key: each.value for each in constants(network, {}) if each.required}


def old_names(arrays: dict[str, np.ndarray], convolutions: bool = False) -> dict[str, np.ndarray]:
    """The same arrays by the names of 2022, attention as matrices, or as convolutions of one pixel."""
    changes = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    found = {}
    for key, array in arrays.items():
        for new, old in changes.items():
            if f".{new}." in key:
                key = key.replace(f".{new}.", f".{old}.")
                array = array[:, :, None, None] if convolutions and array.ndim == 2 else array
        found[key] = array
    return found


def write_pipeline(folder: Path, config: dict[str, Any], arrays: dict[str, np.ndarray], scheduler: Any = None) -> Path:
    """Today's layout: unet/ and scheduler/."""
    for name in ("unet", "scheduler"):
        (folder / name).mkdir(parents=True)
    (folder / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    (folder / "unet" / "config.json").write_text(json.dumps(config))
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler or SCHEDULER))
    write_safetensors(folder / "unet" / "diffusion_pytorch_model.safetensors", arrays)
    return folder


def write_flat(folder: Path, config: dict[str, Any], arrays: dict[str, np.ndarray], scheduler: Any = SCHEDULER) -> Path:
    """The layout of 2022: all in one folder, weights by torch.save."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if scheduler is not None:
        (folder / "scheduler_config.json").write_text(json.dumps(scheduler))
    (folder / "diffusion_pytorch_model.bin").write_bytes(state_dict_zip(arrays))
    return folder


def _original(slot) -> tuple[int, ...]:
    """Matrices are convolutions of one pixel where a block changes its channels."""
    shape = slot.layout.original(slot.leaf.shape)
    return (*shape, 1, 1) if "conv_shortcut.weight" in slot.key else shape


def _drawn(draw: np.random.Generator, key: str, shape: tuple[int, ...]) -> np.ndarray:
    scale = 0.1 if len(shape) < 2 else np.prod(shape[1:]) ** -0.5
    return (scale * draw.standard_normal(shape) + ("norm" in key and key.endswith("weight"))).astype(np.float32)
