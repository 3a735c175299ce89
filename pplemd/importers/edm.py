"""EDM's checkpoints: the constructor's arguments and the state dict of a preconditioned network, as a teacher."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from pplemd.diffusion import AbstractCoefficients, ContinuousVP, DiscreteVP, PlainVE, cosine_levels
from pplemd.errors import ImporterError
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
    interleaved,
)
from pplemd.networks import DhariwalUNet, FourierNoise, PositionalNoise, Side, SongUNet, SongVariant, UNetOptions
from pplemd.networks.edm.layers import Block, DecoderLevel, EncoderLevel, Resample
from pplemd.networks.layers import Conv, GroupNorm, Linear
from pplemd.teachers import AbstractDenoiser, Denoiser, Preconditioned

PRECONDITIONED = {  # class of the checkpoint's network -> class of the network inside it, where it does not say
    "EDMPrecond": "DhariwalUNet",
    "iDDPMPrecond": "DhariwalUNet",
    "VPPrecond": "SongUNet",
    "VEPrecond": "SongUNet",
}
OUTER = {  # arguments of the class of the checkpoint's network; those of no effect on what it computes are not read
    "EDMPrecond": {"sigma_min", "sigma_max", "sigma_data"},
    "iDDPMPrecond": {"C_1", "C_2", "M"},
    "VPPrecond": {"beta_d", "beta_min", "M", "epsilon_t"},
    "VEPrecond": {"sigma_min", "sigma_max"},
}
EVERY = {"img_resolution", "img_channels", "label_dim", "use_fp16", "model_type", "augment_dim", "model_channels"}
EVERY |= {"channel_mult", "channel_mult_emb", "num_blocks", "attn_resolutions", "dropout", "label_dropout"}
SONG = {"embedding_type", "channel_mult_noise", "encoder_type", "decoder_type", "resample_filter"}
MOST_TAPS = 64  # of a filter that halves images: their outer product is built; the longest that is known has four
DEFAULTS: dict[str, dict[str, Any]] = {  # of the original's constructors
    "SongUNet": {"model_channels": 128, "channel_mult": (1, 2, 2, 2), "num_blocks": 4, "attn_resolutions": (16,)},
    "DhariwalUNet": {
        "model_channels": 192,
        "channel_mult": (1, 2, 3, 4),
        "num_blocks": 3,
        "attn_resolutions": (32, 16, 8),
    },
}


def model_type(config: Mapping[str, Any], class_name: str) -> str:
    """Return the class of the network inside a checkpoint's, and check that every argument is one that is known.

    Args:
        config: the constructor's arguments.
        class_name: the class whose constructor it is.

    Raises:
        ImporterError: a class that is not EDM's, or arguments that its constructor does not have.
    """
    if class_name not in PRECONDITIONED:
        raise ImporterError(
            f"the checkpoint's network is a {class_name!r}; expected one of {', '.join(PRECONDITIONED)}. "
            "Wrap a network of another kind in em.teachers.DenoiserFunction."
        )
    found = Arguments(config).one_of("model_type", PRECONDITIONED[class_name], list(DEFAULTS))
    known = EVERY | OUTER[class_name] | (SONG if found == "SongUNet" else set())
    unknown = sorted(str(name) for name in set(config) - known)
    if unknown:
        raise ImporterError(
            f"the configuration of {class_name} with a {found} has arguments that it does not take: "
            f"{', '.join(unknown)}; expected some of {', '.join(sorted(known))}. "
            "Check that it is of an EDM checkpoint; leave out what does not change the network."
        )
    return found


def options(config: Mapping[str, Any], class_name: str, compute: DTypeLike | None, rematerialise: bool) -> UNetOptions:
    """Return the sizes of the network inside a checkpoint's.

    Args:
        config: the constructor's arguments.
        class_name: the class whose constructor it is.
        compute: type of products and features, None for the input's.
        rematerialise: whether blocks are computed again for their gradients.

    Raises:
        ImporterError: an argument of the wrong kind.
    """
    given, usual = Arguments(config), DEFAULTS[model_type(config, class_name)]
    size, image = given.whole("img_resolution"), given.whole("img_channels", 3)
    return UNetOptions(
        shape=(size, size, image),
        channels=given.whole("model_channels", usual["model_channels"]),
        multipliers=given.wholes("channel_mult", usual["channel_mult"]),
        embedding_multiplier=given.whole("channel_mult_emb", 4),
        blocks=given.whole("num_blocks", usual["num_blocks"]),
        attention=given.wholes("attn_resolutions", usual["attn_resolutions"]),
        classes=given.whole("label_dim", 0) or None,
        augment=given.whole("augment_dim", 0) or None,
        dropout=given.number("dropout", 0.1),
        label_dropout=given.number("label_dropout", 0.0),
        out_channels=2 * image if class_name == "iDDPMPrecond" else None,
        compute=compute,
        rematerialise=rematerialise,
    )


def variant(config: Mapping[str, Any]) -> SongVariant:
    """Return which member of the SongUNet family a checkpoint holds.

    Raises:
        ImporterError: an argument of the wrong kind.
    """
    given = Arguments(config)
    noise = given.one_of("embedding_type", "positional", ("positional", "fourier"))
    taps = given.numbers("resample_filter", (1.0, 1.0))
    if len(taps) > MOST_TAPS:
        raise given.wrong("resample_filter", f"at most {MOST_TAPS} numbers")
    return SongVariant(
        noise=PositionalNoise() if noise == "positional" else FourierNoise(),
        noise_multiplier=given.whole("channel_mult_noise", 1),
        encoder=Side(given.one_of("encoder_type", "standard", ("standard", "skip", "residual"))),
        decoder=Side(given.one_of("decoder_type", "standard", ("standard", "skip"))),
        taps=taps,
    )


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
        weights = np.asarray(taps) / np.sum(taps)
        square = np.outer(weights, weights)[None, None]
        yield Constant(f"model.{name}.resample_filter", square)


def _sizes(network: SongUNet | DhariwalUNet) -> list[str]:
    """The originals' names of the levels, finest first."""
    side = network.shape[0]
    return [f"{side >> level}x{side >> level}" for level in range(len(network.trunk.encoder.levels))]


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


MOST_LEVELS = 100_000  # of iDDPM's noise: each is a number of the network's structure
FREQUENCIES, LEVELS = "model.map_noise.freqs", "u"  # the originals' names of constants that only a checkpoint knows


def edm_denoiser(
    config: Mapping[str, Any],
    arrays: Mapping[str, Any] | None,
    class_name: str = "EDMPrecond",
    *,
    compute: DTypeLike | None = None,
    rematerialise: bool = False,
) -> AbstractDenoiser:
    """Return the teacher that an EDM checkpoint holds.

    Args:
        config: the arguments of its constructor, by their names there.
        arrays: its state dict; names begin with "model.". None for the teacher of shapes alone.
        class_name: the class whose constructor it is: EDMPrecond, VPPrecond, VEPrecond or iDDPMPrecond.
        compute: type of products and features, such as jnp.bfloat16; None for the input's. Parameters stay in 32 bits.
        rematerialise: compute each block again for its gradient, instead of keeping what it computed.

    Raises:
        ImporterError: a configuration that is not EDM's, or arrays that are not those of the network it describes.
        RecipeError: a configuration of which no network can be built.

    Source: arXiv:2206.00364, table 1 and appendix F.2.
    """
    sizes, given = options(config, class_name, compute, rematerialise), Arguments(config)
    network: SongUNet | DhariwalUNet
    if model_type(config, class_name) == "SongUNet":
        kind = _with_frequencies(variant(config), sizes, arrays or {})
        _check_volume(sizes, kind.noise_multiplier, arrays)
        network = blank(lambda: SongUNet(sizes, kind, key=jax.random.key(0)))
    else:
        _check_volume(sizes, 1, arrays)
        network = blank(lambda: DhariwalUNet(sizes, key=jax.random.key(0)))
    constants = [*filters(network), *_frequencies(network)]
    levels = _levels(given, arrays or {}) if class_name == "iDDPMPrecond" else None
    if levels is not None:
        constants.append(Constant(LEVELS, levels))
    filled = network if arrays is None else fill(network, slots(network), arrays, constants)
    if class_name == "EDMPrecond":
        return Denoiser(filled, given.number("sigma_data", 0.5))
    return Preconditioned(filled, _coefficients(given, levels, class_name))


def _coefficients(given: Arguments, levels: np.ndarray | None, class_name: str) -> AbstractCoefficients:
    if levels is not None:
        return DiscreteVP(tuple(levels.tolist()))
    if class_name == "VEPrecond":
        return PlainVE()
    return ContinuousVP(given.number("beta_d", 19.9), given.number("beta_min", 0.1), given.whole("M", 1000))


def _check_volume(sizes: UNetOptions, noise_multiplier: int, arrays: Mapping[str, Any] | None) -> None:
    """Refuse a configuration of far more than the arrays hold, before it is built."""
    if arrays is None:
        return
    widest, noise = sizes.channels * max((1, *sizes.multipliers)), sizes.channels * noise_multiplier
    largest = max(
        9 * widest**2,  # a 3 x 3 convolution
        sizes.width * max(sizes.width, noise),
        noise * max(sizes.classes or 0, sizes.augment or 0),
        9 * sizes.channels * max(sizes.shape[2:]),
    )
    check_volume(arrays, sizes.blocks * len(sizes.multipliers), largest)


def _with_frequencies(kind: SongVariant, sizes: UNetOptions, arrays: Mapping[str, np.ndarray]) -> SongVariant:
    """The variant with the checkpoint's frequencies, if it has some and they fit."""
    if not isinstance(kind.noise, FourierNoise):
        return kind
    found = np.asarray(arrays.get(FREQUENCIES, ()), np.float64)
    if found.shape != (sizes.channels * kind.noise_multiplier // 2,) or not np.all(np.isfinite(found)):
        return kind  # and `fill` says what is wrong with them
    return dataclasses.replace(kind, noise=FourierNoise(tuple(found.tolist())))


def _frequencies(network: SongUNet | DhariwalUNet) -> Iterator[Constant]:
    if isinstance(network, SongUNet) and isinstance(network.conditioning.noise, FourierNoise):
        rates = network.conditioning.noise.rates(network.conditioning.first.weight.shape[0] // 2)
        yield Constant(FREQUENCIES, rates / (2 * math.pi), required=True)


def _levels(given: Arguments, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The noise levels of an iDDPM network: the checkpoint's, or what they should have been.

    The originals computed theirs in single precision, where the small ones lose digits: the checkpoint's are better.
    """
    steps = given.whole("M", 1000)
    if steps > MOST_LEVELS:
        raise given.wrong("M", f"an integer up to {MOST_LEVELS}")
    found = np.asarray(arrays.get(LEVELS, ()))
    if found.shape == (steps + 1,):
        return found
    return np.asarray(cosine_levels(steps, given.number("C_1", 0.001), given.number("C_2", 0.008)))
