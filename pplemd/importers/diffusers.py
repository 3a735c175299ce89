"""diffusers' UNet2DModel with its scheduler, as a teacher."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.typing import DTypeLike

from pplemd.errors import ImporterError
from pplemd.importers.diffusers_config import options
from pplemd.importers.diffusers_names import constants, frequencies, slots
from pplemd.importers.diffusers_scheduler import assumed, convention, ddim_sampler, denoiser
from pplemd.importers.filling import blank, check_volume, fill
from pplemd.networks import FourierNoise, TimeKind, UNet2DModel, UNet2DOptions
from pplemd.teachers import AbstractDenoiser, DDIMSampler

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
    """Return the network alone, which is told time steps; arguments and errors are those of `diffusers_denoiser`."""
    sizes = options({name: value for name, value in config.items() if name != SCHEDULER}, compute, rematerialise)
    if arrays is None:
        return blank(lambda: UNet2DModel(sizes, key=jax.random.key(0)))
    _check_volume(sizes, arrays)
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


def _check_volume(sizes: UNet2DOptions, arrays: Mapping[str, Any]) -> None:
    """Refuse a configuration of far more than the arrays hold, before it is built."""
    widest, classes = max((1, *sizes.channels)), 0 if sizes.classes_as_times else sizes.classes or 0
    times = sizes.times or 0 if sizes.time is TimeKind.LEARNED else 0
    largest = max(9 * widest**2, sizes.features * max(sizes.features, classes), times * max((1, *sizes.channels[:1])))
    check_volume(arrays, sizes.blocks * len(sizes.channels), largest)
