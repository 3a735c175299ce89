"""Which array of EDM's state dict goes where in a SongUNet or DhariwalUNet."""

from collections.abc import Iterator

import numpy as np

from pplemd.importers.filling import CONV, LINEAR, POINTWISE, SAME, Constant, Layout, Slot, interleaved
from pplemd.networks import DhariwalUNet, SongUNet
from pplemd.networks.edm.blocks import Block, Resample
from pplemd.networks.edm.levels import DecoderLevel, EncoderLevel
from pplemd.networks.layers import Conv, GroupNorm, Linear
from pplemd.networks.resampling import Taps


def slots(network: SongUNet | DhariwalUNet) -> Iterator[Slot]:
    """Every array of a blank network, with the original's name for it."""
    yield from _conditioning(network)
    encoder, decoder = network.trunk.encoder, network.trunk.decoder
    sizes = _sizes(network)
    yield from _layer(encoder.first, f"model.enc.{sizes[0]}_conv")
    for size, level in zip(sizes, encoder.levels, strict=True):
        yield from _encoder_level(level, f"model.enc.{size}")
    for size, out in zip(reversed(sizes), decoder.levels, strict=True):
        yield from _decoder_level(out, f"model.dec.{size}", isinstance(network, SongUNet))


def filters(network: SongUNet | DhariwalUNet) -> Iterator[Constant]:
    """Every resampling filter of the original, which are constants here."""
    sizes, taps = _sizes(network), network.trunk.encoder.style.taps
    encoder, decoder = network.trunk.encoder.levels, network.trunk.decoder.levels
    names = [name for size in sizes[1:] for name in (f"enc.{size}_down.conv0", f"enc.{size}_down.skip")]
    names += [name for size in sizes[:-1] for name in (f"dec.{size}_up.conv0", f"dec.{size}_up.skip")]
    for size, level in zip(sizes, encoder, strict=True):
        if level.side is not None:
            names.append(f"enc.{size}_aux_{'down' if isinstance(level.side, Linear) else 'residual'}")
    if decoder[0].output is not None and len(decoder) > 1:
        names += [f"dec.{size}_aux_up" for size in sizes[:-1]]
    for name in names:
        yield Constant(f"model.{name}.resample_filter", _square(taps))


def _sizes(network: SongUNet | DhariwalUNet) -> list[str]:
    """The originals' names of the levels, finest first."""
    side = network.shape[0]
    return [f"{side >> level}x{side >> level}" for level in range(len(network.trunk.encoder.levels))]


def _square(taps: Taps) -> np.ndarray:
    weights = np.asarray(taps) / np.sum(taps)
    return np.outer(weights, weights)[None, None]


def _layer(layer: Linear | Conv | GroupNorm, key: str, weight: Layout | None = None) -> Iterator[Slot]:
    """A layer's weight and bias; a Linear is a matrix of the original unless its layout is given."""
    if isinstance(layer, GroupNorm):
        yield Slot(layer.scale, f"{key}.weight")
        yield Slot(layer.shift, f"{key}.bias")
    else:
        yield Slot(layer.weight, f"{key}.weight", weight or (CONV if isinstance(layer, Conv) else LINEAR))
        yield Slot(layer.bias, f"{key}.bias")


def _conditioning(network: SongUNet | DhariwalUNet) -> Iterator[Slot]:
    conditioning = network.conditioning
    yield from _layer(conditioning.first, "model.map_layer0")
    yield from _layer(conditioning.last, "model.map_layer1")
    if conditioning.augment is not None:
        yield Slot(conditioning.augment, "model.map_augment.weight", LINEAR)
    if isinstance(conditioning.label, Linear):
        yield from _layer(conditioning.label, "model.map_label")
    elif conditioning.label is not None:
        yield Slot(conditioning.label.table, "model.map_label.weight", LINEAR)


def _encoder_level(level: EncoderLevel, prefix: str) -> Iterator[Slot]:
    if level.down is not None:
        yield from _block(level.down, f"{prefix}_down")
    if isinstance(level.side, Linear):
        yield from _layer(level.side, f"{prefix}_aux_skip", POINTWISE)
    elif level.side is not None:
        yield from _layer(level.side, f"{prefix}_aux_residual")
    for i, block in enumerate(level.blocks):
        yield from _block(block, f"{prefix}_block{i}")


def _decoder_level(level: DecoderLevel, prefix: str, song: bool) -> Iterator[Slot]:
    for i, block in enumerate(level.opening):
        yield from _block(block, f"{prefix}_up" if block.resample is Resample.DOUBLE else f"{prefix}_in{i}")
    for i, block in enumerate(level.blocks):
        yield from _block(block, f"{prefix}_block{i}")
    if level.output is not None:
        output = f"{prefix}_aux" if song else "model.out"
        yield from _layer(level.output.norm, f"{output}_norm")
        yield from _layer(level.output.conv, f"{output}_conv")


def _block(block: Block, prefix: str) -> Iterator[Slot]:
    yield from _layer(block.norm_first, f"{prefix}.norm0")
    yield from _layer(block.conv_first, f"{prefix}.conv0")
    yield from _layer(block.modulation, f"{prefix}.affine")
    yield from _layer(block.norm_last, f"{prefix}.norm1")
    yield from _layer(block.conv_last, f"{prefix}.conv1")
    if block.skip is not None:
        yield from _layer(block.skip, f"{prefix}.skip", POINTWISE)
    if block.attention is not None:
        attention = block.attention
        yield from _layer(attention.norm, f"{prefix}.norm2")
        yield Slot(attention.project_in.weight, f"{prefix}.qkv.weight", interleaved(POINTWISE, attention.heads))
        yield Slot(attention.project_in.bias, f"{prefix}.qkv.bias", interleaved(SAME, attention.heads))
        yield from _layer(attention.project_out, f"{prefix}.proj", POINTWISE)
