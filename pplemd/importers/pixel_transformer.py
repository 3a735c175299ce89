"""The state dict of a small pixel transformer (flow matching, x1-prediction, PyTorch's names), as a teacher."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from pplemd.diffusion import FlowClean, Rescaled
from pplemd.errors import ImporterError
from pplemd.importers.filling import LINEAR, Arguments, Layout, Slot, blank, check_volume, fill
from pplemd.networks import PixelTransformer
from pplemd.teachers import AbstractDenoiser, DenoiserFunction

HEADS = 4  # the one size that no array tells
SIZES = ("patch", "width", "layers", "heads", "hidden", "extra", "classes")  # that a configuration may say
OWNER = "a pixel transformer"
RANGE = (0.0, 1.0)  # what black and white are to the network


def pixel_transformer_denoiser(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None) -> AbstractDenoiser:
    """Return the teacher that a pixel transformer's arrays are.

    The network predicts the data end of a flow, x1(x_t, t, y) with x_t = t x1 + (1 - t) n, in its own range of pixels.
    Here sigma and x are those of images in [-1, 1]: in the network's range (0, 1) both are half as large, and
    t = 1 / (1 + sigma / 2).

    Args:
        config: `heads` (4 by default), `range` of the pixels ((0, 1) by default), and `shape`, (h, w, c), where the
            images are not square. Every other size is read off the arrays; other entries are ignored. Without arrays
            it says the sizes: `shape`, and what else of `PixelTransformer`'s is not its default.
        arrays: the state dict: `patch_embed`, `pos_embed`, `transformer.<i>` as torch.nn.TransformerEncoderLayer with
            the norms last and exact GELU, `unpatch`, and `y_encoder`, whose last row is that of no class. None for the
            teacher of shapes alone.

    Raises:
        ImporterError: arrays that are missing, left over, misshapen or not finite, all of them in one message; an entry
            of the wrong kind.
    """
    sizes = _said(config) if arrays is None else _sizes(config, arrays)
    low, high = pixel_range(config)
    template = blank(lambda: PixelTransformer(**sizes, key=jax.random.key(0)))
    network = template if arrays is None else fill(template, _slots(template), arrays)
    function = Rescaled(FlowClean(network), 2 / (high - low), -1 - 2 * low / (high - low))
    return DenoiserFunction(function, network.shape, network.condition)


def pixel_range(config: Mapping[str, Any]) -> tuple[float, float]:
    """What black and white are to the network.

    Raises:
        ImporterError: where the configuration says anything else.
    """
    given = Arguments(config, OWNER)
    found = given.numbers("range", RANGE)
    if len(found) != 2 or not found[0] < found[1]:
        raise given.wrong("range", "two numbers, from black to white")
    return found[0], found[1]


def assumed(config: Mapping[str, Any]) -> tuple[str, ...]:
    """What of a network neither its configuration nor its arrays say, a sentence each."""
    unsaid = {"heads": f"{HEADS} attention heads", "range": f"pixels in [{RANGE[0]:g}, {RANGE[1]:g}]"}
    missing = [name for name in unsaid if name not in config]
    if not missing:
        return ()
    values = " and ".join(unsaid[name] for name in missing)
    return (f"the configuration does not say {' and '.join(missing)}, so {values} are assumed",)


def _image(config: Mapping[str, Any], default: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an image.

    Raises:
        ImporterError: where the configuration's is none.
    """
    given = Arguments(config, OWNER)
    found = given.wholes("shape", default)
    if len(found) != 3:
        raise given.wrong("shape", "(h, w, c)")
    return found


def _said(config: Mapping[str, Any]) -> dict[str, Any]:
    """The network's arguments, as the configuration says them.

    Raises:
        ImporterError: where it does not say the shape of the images.
    """
    if "shape" not in config:
        raise ImporterError(
            "a pixel transformer's sizes are those of its arrays, and none were given; expected its checkpoint, or a "
            "configuration with `shape`, (h, w, c). Give the checkpoint by --teacher PATH."
        )
    given = Arguments(config, OWNER)
    said = {name: given.optional(name) for name in SIZES if config.get(name) is not None}
    return {**said, "shape": _image(config, ())}


def _sizes(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The network's arguments, from the shapes of its arrays.

    Raises:
        ImporterError: where an array that tells a size is missing or of another rank.
    """
    width, channels, patch, _ = _shape(arrays, "patch_embed.weight", 4)
    patches = _shape(arrays, "pos_embed", 3)[1]
    side = math.isqrt(patches)
    shape = _image(config, (side * patch, side * patch, channels))
    if (shape[0] // patch) * (shape[1] // patch) != patches:
        raise ImporterError(
            f"found {patches} positions for images of shape {shape} in patches of {patch} x {patch}; expected one for "
            "each patch. Give the configuration the images' `shape`, (h, w, c), where they are not square."
        )
    layers = len({key.split(".")[1] for key in arrays if key.startswith("transformer.")})
    check_volume(arrays, layers)
    labels = _shape(arrays, "y_encoder.weight", 2) if "y_encoder.weight" in arrays else None
    return {
        "shape": shape,
        "patch": patch,
        "width": width,
        "layers": layers,
        "heads": Arguments(config, OWNER).whole("heads", HEADS),
        "hidden": _shape(arrays, "transformer.0.linear1.weight", 2)[0],
        "extra": 2 if labels is None else labels[1] // width,
        "classes": None if labels is None else labels[0] - 1,
    }


def _shape(arrays: Mapping[str, np.ndarray], key: str, rank: int) -> tuple[int, ...]:
    found = np.shape(arrays[key]) if key in arrays else None
    if found is None or len(found) != rank or 0 in found:
        raise ImporterError(
            f"found {'no array' if found is None else f'an array of shape {found}'} under {key}; expected one of "
            f"{rank} dimensions, none of them 0, as a pixel transformer has. Check that the file is one."
        )
    return found


def _slots(network: PixelTransformer) -> Iterator[Slot]:
    """Where each of the original's arrays goes."""
    patch, channels = network.patch, network.shape[2]
    pixels_in = Layout(  # (width, c, h, w) -> (h w c, width)
        lambda ours: (ours[1], channels, patch, patch),
        lambda array: array.transpose(2, 3, 1, 0).reshape(-1, len(array)),
    )
    pixels_out = Layout(  # (width, c, h, w) -> (width, h w c)
        lambda ours: (ours[0], channels, patch, patch),
        lambda array: array.transpose(0, 2, 3, 1).reshape(len(array), -1),
    )
    yield Slot(network.first.weight, "patch_embed.weight", pixels_in)
    yield Slot(network.first.bias, "patch_embed.bias")
    yield Slot(network.positions, "pos_embed", Layout(lambda ours: (1, *ours), lambda array: array[0]))
    if network.labels is not None:
        yield Slot(network.labels, "y_encoder.weight")
    for i, block in enumerate(network.blocks):
        inside = f"transformer.{i}."
        yield Slot(block.project_in.weight, inside + "self_attn.in_proj_weight", LINEAR)
        yield Slot(block.project_in.bias, inside + "self_attn.in_proj_bias")
        layers = {"self_attn.out_proj": block.project_out, "linear1": block.first, "linear2": block.last}
        for name, layer in layers.items():
            yield Slot(layer.weight, f"{inside}{name}.weight", LINEAR)
            yield Slot(layer.bias, f"{inside}{name}.bias")
        for norm, name in ((block.norm_attended, "norm1"), (block.norm_last, "norm2")):
            yield Slot(norm.scale, f"{inside}{name}.weight")
            yield Slot(norm.shift, f"{inside}{name}.bias")
    yield Slot(network.last.weight, "unpatch.weight", pixels_out)
    yield Slot(network.last.bias, "unpatch.bias")
