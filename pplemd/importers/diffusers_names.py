"""Which array of a UNet2DModel's state dict goes where, by today's names and those of 2022."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pplemd.importers.filling import CONV, LINEAR, POINTWISE, SAME, Constant, Layout, Slot
from pplemd.networks import UNet2DModel
from pplemd.networks.diffusers.blocks import Attention, ResnetBlock, Stage
from pplemd.networks.diffusers.conditioning import SigmaWaves, StepTable, TwoLayers, UNet2DConditioning
from pplemd.networks.diffusers.convolutions import DoublingConv, HalvingConv, ToImage
from pplemd.networks.layers import Conv, GroupNorm, Linear

Arrays = Mapping[str, Any]
FREQUENCIES = "time_proj.weight"
PLACES = {"down_blocks.": "downsample_blocks.", "up_blocks.": "upsample_blocks.", "mid_block.": "mid."}  # first of 2022
LAYERS = {  # of attention: today's name, and those before
    ".to_q.": (".query.", ".q."),
    ".to_k.": (".key.", ".k."),
    ".to_v.": (".value.", ".v."),
    ".to_out.0.": (".proj_attn.", ".proj_out."),
    ".group_norm.": (".norm.",),
}
NARROW = Layout(lambda ours: (*ours[::-1], 1), lambda array: array[:, :, 0].T)  # convolution of a row as a matrix
MATRICES = {2: LINEAR, 3: NARROW, 4: POINTWISE}  # by the rank of the original


def slots(network: UNet2DModel, arrays: Arrays) -> Iterator[Slot]:
    """Every array of a blank network, with the name and layout that it has among the original's.

    Args:
        network: the network.
        arrays: the original's; of those that it lacks, today's names are given.
    """
    for slot in _slots(network):
        key = _spelled(slot.key, arrays)
        matrix = slot.layout is LINEAR and key in arrays
        yield Slot(slot.leaf, key, MATRICES.get(len(np.shape(arrays[key])), LINEAR) if matrix else slot.layout)


def constants(network: UNet2DModel, arrays: Arrays) -> Iterator[Constant]:
    """The frequencies of Fourier features, which are constants here; the first checkpoints hold them twice."""
    time = network.conditioning.time
    if isinstance(time, SigmaWaves):
        value = time.noise.rates(time.count) / (2 * math.pi)
        yield Constant(FREQUENCIES, value, required=not set(_frequencies()) & set(arrays))
        for key in _frequencies()[1:]:
            yield Constant(key, value)


def frequencies(arrays: Arrays) -> Any:
    """The frequencies among a checkpoint's arrays, or None."""
    return next((arrays[key] for key in _frequencies() if key in arrays), None)


def _frequencies() -> tuple[str, ...]:
    return FREQUENCIES, "time_proj.W", "time_steps.weight", "time_steps.W"


def _spelled(key: str, arrays: Arrays) -> str:
    """The name under which an array is there; today's where it is not there."""
    places = [key, *[old + key.removeprefix(new) for new, old in PLACES.items() if key.startswith(new)]]
    names = list(places)
    for new, olds in LAYERS.items():
        if ".attentions." in key and new in key:
            names += [place.replace(new, old) for place in places for old in olds]
    return next((name for name in names if name in arrays), key)


def _slots(network: UNet2DModel) -> Iterator[Slot]:
    yield from _conditioning(network.conditioning)
    encoder, decoder = network.encoder, network.decoder
    yield from _layer(encoder.first, "conv_in")
    for i, level in enumerate(encoder.levels):
        prefix = f"down_blocks.{i}"
        yield from _stages(level.stages, prefix)
        yield from _resize(level.down, prefix, "resnet_down" if level.side is not None else "downsamplers.0")
        if level.side is not None:
            yield Slot(level.side.weight, f"{prefix}.skip_conv.weight", POINTWISE)
            yield Slot(level.side.bias, f"{prefix}.skip_conv.bias")
    yield from _stages(decoder.middle, "mid_block")
    for i, out in enumerate(decoder.levels):
        prefix = f"up_blocks.{i}"
        yield from _stages(out.stages, prefix)
        yield from _resize(out.up, prefix, "resnet_up" if out.output is not None else "upsamplers.0")
        if out.output is not None:
            yield from _image(out.output, f"{prefix}.skip_norm", f"{prefix}.skip_conv")
    yield from _image(decoder.last, "conv_norm_out", "conv_out")


def _layer(layer: Linear | Conv | GroupNorm, key: str) -> Iterator[Slot]:
    if isinstance(layer, GroupNorm):
        yield Slot(layer.scale, f"{key}.weight")
        yield Slot(layer.shift, f"{key}.bias")
    else:
        yield Slot(layer.weight, f"{key}.weight", CONV if isinstance(layer, Conv) else LINEAR)
        yield Slot(layer.bias, f"{key}.bias")


def _conditioning(conditioning: UNet2DConditioning) -> Iterator[Slot]:
    if isinstance(conditioning.time, StepTable):
        yield Slot(conditioning.time.rows, FREQUENCIES, SAME)
    yield from _two_layers(conditioning.layers, "time_embedding")
    if isinstance(conditioning.label, TwoLayers):
        yield from _two_layers(conditioning.label, "class_embedding")
    elif conditioning.label is not None:
        yield Slot(conditioning.label.table, "class_embedding.weight")


def _two_layers(layers: TwoLayers, key: str) -> Iterator[Slot]:
    yield from _layer(layers.first, f"{key}.linear_1")
    yield from _layer(layers.last, f"{key}.linear_2")


def _image(output: ToImage, norm: str, conv: str) -> Iterator[Slot]:
    yield from _layer(output.norm, norm)
    yield from _layer(output.conv, conv)


def _stages(stages: tuple[Stage, ...], prefix: str) -> Iterator[Slot]:
    """Blocks and attention are numbered apart."""
    for i, stage in enumerate(stages):
        yield from _block(stage.block, f"{prefix}.resnets.{i}")
    for i, attention in enumerate(stage.attention for stage in stages if stage.attention is not None):
        yield from _attention(attention, f"{prefix}.attentions.{i}")


def _resize(layer: HalvingConv | DoublingConv | Stage | None, prefix: str, name: str) -> Iterator[Slot]:
    if isinstance(layer, Stage):
        yield from _block(layer.block, f"{prefix}.{name}")
    elif layer is not None:
        yield from _layer(layer.conv, f"{prefix}.{name}.conv")


def _block(block: ResnetBlock, prefix: str) -> Iterator[Slot]:
    yield from _layer(block.norm_first, f"{prefix}.norm1")
    yield from _layer(block.conv_first, f"{prefix}.conv1")
    yield from _layer(block.modulation, f"{prefix}.time_emb_proj")
    yield from _layer(block.norm_last, f"{prefix}.norm2")
    yield from _layer(block.conv_last, f"{prefix}.conv2")
    if block.skip is not None:
        yield from _layer(block.skip, f"{prefix}.conv_shortcut")


def _attention(attention: Attention, prefix: str) -> Iterator[Slot]:
    if attention.norm is not None:
        yield from _layer(attention.norm, f"{prefix}.group_norm")
    yield from _layer(attention.query, f"{prefix}.to_q")
    yield from _layer(attention.key, f"{prefix}.to_k")
    yield from _layer(attention.value, f"{prefix}.to_v")
    yield from _layer(attention.out, f"{prefix}.to_out.0")
