"""EDM's checkpoints: the constructor's arguments and the state dict of a preconditioned network, as a teacher."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from pplemd.diffusion import ContinuousVP, DiscreteVP, PlainVE, cosine_levels
from pplemd.errors import ImporterError
from pplemd.importers.edm_config import Arguments, model_type, options, variant
from pplemd.importers.edm_names import filters, slots
from pplemd.importers.filling import Constant, blank, fill
from pplemd.networks import DhariwalUNet, FourierNoise, SongUNet, SongVariant, UNetOptions
from pplemd.teachers import AbstractDenoiser, Denoiser, Preconditioned

FREQUENCIES, LEVELS = "model.map_noise.freqs", "u"  # the originals' names of constants that only a checkpoint knows


def edm_denoiser(
    config: Mapping[str, Any],
    arrays: Mapping[str, Any] | None,
    class_name: str = "EDMPrecond",
    *,
    compute: Any = None,
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
    sizes = options(config, class_name, compute, rematerialise)
    if arrays is not None:
        _check_count(sizes, arrays)
    network: SongUNet | DhariwalUNet
    if model_type(config, class_name) == "SongUNet":
        kind = _with_frequencies(variant(config), sizes, arrays or {})
        network = blank(lambda: SongUNet(sizes, kind, key=jax.random.key(0)))
    else:
        network = blank(lambda: DhariwalUNet(sizes, key=jax.random.key(0)))
    constants = [*filters(network), *_frequencies(network), *_levels(config, arrays or {}, class_name)]
    filled = network if arrays is None else fill(network, slots(network), arrays, constants)
    return _preconditioned(filled, Arguments(config), constants, class_name)


def _preconditioned(
    network: SongUNet | DhariwalUNet, given: Arguments, constants: list[Constant], class_name: str
) -> AbstractDenoiser:
    if class_name == "EDMPrecond":
        return Denoiser(network, given.number("sigma_data", 0.5))
    if class_name == "VEPrecond":
        return Preconditioned(network, PlainVE())
    if class_name == "VPPrecond":
        slope, low = given.number("beta_d", 19.9), given.number("beta_min", 0.1)
        return Preconditioned(network, ContinuousVP(slope, low, given.whole("M", 1000)))
    return Preconditioned(network, DiscreteVP(tuple(constants[-1].value.tolist())))


def _check_count(sizes: UNetOptions, arrays: Mapping[str, np.ndarray]) -> None:
    """Refuse a configuration of far more blocks than there are arrays, before they are built."""
    blocks = sizes.blocks * max(1, len(sizes.multipliers))
    if blocks > len(arrays):
        raise ImporterError(
            f"the configuration says {sizes.blocks} blocks at each of {len(sizes.multipliers)} levels, and there are "
            f"{len(arrays)} arrays; expected several for each block. Check that both are of one checkpoint."
        )


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


def _levels(config: Mapping[str, Any], arrays: Mapping[str, np.ndarray], class_name: str) -> Iterator[Constant]:
    """The noise levels of an iDDPM network: the checkpoint's, or what they should have been."""
    if class_name == "iDDPMPrecond":
        given = Arguments(config)
        levels = cosine_levels(given.whole("M", 1000), given.number("C_1", 0.001), given.number("C_2", 0.008))
        found = np.asarray(arrays.get(LEVELS, levels))
        # the originals computed theirs in single precision, where the small ones lose digits: take those
        yield Constant(LEVELS, found if found.shape == (len(levels),) else np.asarray(levels))
