"""EDM's checkpoints: the constructor's arguments and the state dict of a preconditioned network, as a teacher."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from pplemd.diffusion import AbstractCoefficients, ContinuousVP, DiscreteVP, PlainVE, cosine_levels
from pplemd.importers.arguments import Arguments
from pplemd.importers.edm_config import model_type, options, variant
from pplemd.importers.edm_names import filters, slots
from pplemd.importers.filling import Constant, blank, check_volume, fill
from pplemd.networks import DhariwalUNet, FourierNoise, SongUNet, SongVariant, UNetOptions
from pplemd.teachers import AbstractDenoiser, Denoiser, Preconditioned

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
