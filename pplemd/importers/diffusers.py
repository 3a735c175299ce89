"""diffusers' UNet2DModel with its scheduler, as a teacher."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from pplemd.errors import ImporterError
from pplemd.importers.diffusers_scheduler import assumed, convention, ddim_sampler, denoiser
from pplemd.importers.filling import (
    CONV,
    LINEAR,
    POINTWISE,
    SAME,
    Arguments,
    Constant,
    Layout,
    Slot,
    blank,
    check_volume,
    fill,
)
from pplemd.networks import FourierNoise, LevelKind, TimeKind, UNet2DModel, UNet2DOptions
from pplemd.networks.diffusers.conditioning import SigmaWaves, StepTable, TwoLayers, UNet2DConditioning
from pplemd.networks.diffusers.layers import Attention, DoublingConv, HalvingConv, ResnetBlock, Stage, ToImage
from pplemd.networks.layers import Conv, GroupNorm, Linear
from pplemd.teachers import AbstractDenoiser, DDIMSampler

OWNER = "a UNet2DModel"
DOWN = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D", "SkipDownBlock2D", "AttnSkipDownBlock2D")
UP = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D", "SkipUpBlock2D", "AttnSkipUpBlock2D")
CHANNELS = (224, 448, 672, 896)  # of the original's constructor, as the kinds of levels are
USUAL = {
    "down_block_types": (DOWN[0], DOWN[1], DOWN[1], DOWN[1]),
    "up_block_types": (UP[1], UP[1], UP[1], UP[0]),
}
PREFIX = "UNetRes"  # of the names of kinds of levels in 2022
OLD = {  # names of entries in the first half of 2022
    "image_size": "sample_size",
    "num_res_blocks": "layers_per_block",
    "block_channels": "block_out_channels",
    "down_blocks": "down_block_types",
    "up_blocks": "up_block_types",
    "downscale_freq_shift": "freq_shift",
    "resnet_num_groups": "norm_num_groups",
    "resnet_act_fn": "act_fn",
    "resnet_eps": "norm_eps",
    "num_head_channels": "attention_head_dim",
}


def options(config: Mapping[str, Any], compute: DTypeLike | None = None, rematerialise: bool = False) -> UNet2DOptions:
    """Return the sizes and kinds of the network that a configuration describes.

    Entries that the original's constructor does not take have no effect, as there.

    Args:
        config: config.json, of today or of 2022.
        compute: type of products and features, None for the input's.
        rematerialise: whether blocks are computed again for their gradients.

    Raises:
        ImporterError: an entry of the wrong kind, or a kind of network that pplemd does not have.
    """
    given = Arguments({OLD.get(name, name): value for name, value in config.items()}, OWNER)
    image, computed = given.whole("in_channels", 3), given.whole("out_channels", 3)
    if computed not in (image, 2 * image):
        raise given.wrong("out_channels", f"{image}, its in_channels, or with a learnt variance {2 * image}")
    modulated = given.one_of("resnet_time_scale_shift", "default", ("default", "scale_shift")) == "scale_shift"
    classes, as_times = _classes(given)
    found = given.whole("downsample_padding", 1)
    if found > 1:
        raise given.wrong("downsample_padding", "0 or 1")
    padded_evenly = found == 1
    return UNet2DOptions(
        shape=(*_size(given), image),
        channels=given.wholes("block_out_channels", CHANNELS),
        down=_kinds(given, "down_block_types", DOWN, "downsample_type"),
        up=_kinds(given, "up_block_types", UP, "upsample_type"),
        blocks=given.whole("layers_per_block", 2),
        middle=_middle(given),
        middle_attend=given.flag("add_attention", True),
        middle_scale=given.number("mid_block_scale_factor", 1.0),
        head=given.optional("attention_head_dim", 8),
        groups=given.optional("norm_num_groups", 32),
        middle_groups=given.optional("attn_norm_num_groups"),
        floor=given.number("norm_eps", 1e-5),
        modulated=modulated,
        activation=given.one_of("act_fn", "silu", ("silu", "swish", "mish", "gelu", "relu")),
        time=TimeKind(given.one_of("time_embedding_type", "positional", [kind.value for kind in TimeKind])),
        time_shift=given.number("freq_shift", 0.0),
        time_flip=given.flag("flip_sin_to_cos", True),
        times=given.optional("num_train_timesteps"),
        width=given.optional("time_embedding_dim"),
        classes=classes,
        classes_as_times=as_times,
        padded_evenly=padded_evenly,
        centred=given.flag("center_input_sample", False),
        out_channels=computed,
        dropout=given.number("dropout", 0.0),
        compute=compute,
        rematerialise=rematerialise,
    )


def _size(given: Arguments) -> tuple[int, int]:
    found = given.given.get("sample_size")
    if isinstance(found, Sequence) and not isinstance(found, str) and len(found) == 2:
        height, width = given.wholes("sample_size", ())
        return height, width
    if found is None:
        raise given.wrong("sample_size", "the side of the images in pixels, or [height, width]: add it")
    return (given.whole("sample_size"),) * 2


def _kinds(given: Arguments, name: str, known: Sequence[str], resampling: str) -> tuple[LevelKind, ...]:
    """The kind of each level; attending levels change an image's size as another entry says."""
    found = given.given.get(name, USUAL[name])
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise given.wrong(name, f"a list of {', '.join(known)}")
    by_block = (given.given.get(resampling) or "conv") != "conv" and (
        given.one_of(resampling, "conv", ("conv", "resnet")) == "resnet"
    )
    kinds = []
    for item in found:
        kind = str(item).removeprefix(PREFIX)
        if kind not in known:
            raise ImporterError(
                f"the configuration has a level of the kind {ascii(str(item))[:60]} in {name}; pplemd has "
                f"{', '.join(known)}. Wrap a network of another kind in em.teachers.DenoiserFunction."
            )
        attend, skip, resnet = kind.startswith("Attn"), "Skip" in kind, kind.startswith("Resnet")
        kinds.append(LevelKind(attend, skip or resnet or (attend and by_block), skip))
    return tuple(kinds)


def _middle(given: Arguments) -> bool:
    if given.given.get("mid_block_type", "UNetMidBlock2D") is None:
        return False
    given.one_of("mid_block_type", "UNetMidBlock2D", ("UNetMidBlock2D",))
    return True


def _classes(given: Arguments) -> tuple[int | None, bool]:
    """The number of classes, and whether they are given as time steps are.

    Such classes need no table and so no number: where it is not said, there are as many as time steps.
    """
    count = given.optional("num_class_embeds")
    kind = given.given.get("class_embed_type")
    if kind is None:
        return count, False
    given.one_of("class_embed_type", "timestep", ("timestep",))  # an identity wants vectors, which are no classes
    return count or given.optional("num_train_timesteps") or 1000, True


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


SCHEDULER = "scheduler"  # the entry of a configuration under which scheduler_config.json is kept


def diffusers_denoiser(
    config: Mapping[str, Any],
    arrays: Mapping[str, Any] | None,
    *,
    compute: DTypeLike | None = None,
    rematerialise: bool = False,
) -> AbstractDenoiser:
    """Return the teacher that a diffusers pipeline of one UNet2DModel holds.

    Args:
        config: the model's config.json, with the pipeline's scheduler_config.json under "scheduler"; without it,
            DDPM's usual one is taken.
        arrays: its state dict, by today's names or those of 2022. None for the teacher of shapes alone.
        compute: type of products and features, such as jnp.bfloat16; None for the input's. Parameters stay in 32 bits.
        rematerialise: compute each block again for its gradient, instead of keeping what it computed.

    Raises:
        ImporterError: a configuration that is not of such a pipeline, or arrays that are not those of the network it
            describes.
        RecipeError: a configuration of which no network can be built.
    """
    scheduler = _scheduler(config)
    return denoiser(unet_2d(config, arrays, compute=compute, rematerialise=rematerialise), scheduler)


def diffusers_convention(config: Mapping[str, Any]) -> str:
    """Say in a line in what terms a pipeline speaks of noise and images.

    Raises:
        ImporterError: a scheduler whose convention is unknown.
    """
    return convention(_scheduler(config))


def diffusers_assumed(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what of a pipeline's convention is assumed, a sentence each.

    Raises:
        ImporterError: an entry "scheduler" of the wrong kind.
    """
    return assumed(_scheduler(config))


def diffusers_ddim(config: Mapping[str, Any], steps: int) -> DDIMSampler:
    """Return DDIM as the pipeline's scheduler would have it.

    Args:
        config: as for `diffusers_denoiser`.
        steps: number of time steps.

    Raises:
        ImporterError: an entry of the wrong kind.
    """
    return ddim_sampler(_scheduler(config), steps)


def unet_2d(
    config: Mapping[str, Any],
    arrays: Mapping[str, Any] | None,
    *,
    compute: DTypeLike | None = None,
    rematerialise: bool = False,
) -> UNet2DModel:
    """Return the network alone, which is given time steps; arguments and errors are those of `diffusers_denoiser`."""
    sizes = options({name: value for name, value in config.items() if name != SCHEDULER}, compute, rematerialise)
    if arrays is None:
        return blank(lambda: UNet2DModel(sizes, key=jax.random.key(0)))
    # refuse a configuration of far more than the arrays hold, before it is built
    widest, classes = max((1, *sizes.channels)), 0 if sizes.classes_as_times else sizes.classes or 0
    times = sizes.times or 0 if sizes.time is TimeKind.LEARNED else 0
    largest = max(9 * widest**2, sizes.features * max(sizes.features, classes), times * max((1, *sizes.channels[:1])))
    check_volume(arrays, sizes.blocks * len(sizes.channels), largest)
    sizes = _with_frequencies(sizes, arrays)
    network = blank(lambda: UNet2DModel(sizes, key=jax.random.key(0)))
    return fill(network, slots(network, arrays), arrays, constants(network, arrays))


def _scheduler(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get(SCHEDULER, {})
    if not isinstance(found, Mapping):
        raise ImporterError(
            f"the configuration says scheduler={ascii(str(found))[:60]}; expected the entries of scheduler_config.json."
        )
    return found


def _with_frequencies(sizes: UNet2DOptions, arrays: Mapping[str, Any]) -> UNet2DOptions:
    """The options with the checkpoint's Fourier frequencies, if it has some and they fit."""
    found = frequencies(arrays) if sizes.time is TimeKind.FOURIER else None
    if found is None or isinstance(found, jax.ShapeDtypeStruct):
        return sizes
    values = np.asarray(found, np.float64)
    if values.shape != sizes.channels[:1] or not np.all(np.isfinite(values)):
        return sizes  # and `fill` says what is wrong with them
    return dataclasses.replace(sizes, frequencies=FourierNoise(tuple(values.tolist())))
