"""UNet2DModel and DDIM against recorded values of the originals, from a folder that they saved."""

import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy_unet_2d import Reference

from pplemd.importers import build, diffusers_ddim, read_checkpoint, unet_2d
from pplemd.teachers import AbstractDenoiser, own_schedule

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
BOUND = 2e-5  # of the largest error, relative to the largest value, in single precision

pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason="the recorded values are not at hand")


@functools.cache
def recorded() -> dict[str, np.ndarray]:
    with np.load(PARITY / "diffusers_tiny_io.npz") as file:
        return dict(file)


@functools.cache
def found():
    return read_checkpoint(PARITY / "diffusers_tiny")


@functools.cache
def teacher() -> AbstractDenoiser:
    return build(found())


def images(name: str) -> jax.Array:
    """Channels last."""
    return jnp.asarray(np.moveaxis(recorded()[name], 1, -1))


def error(computed: jax.Array, expected: np.ndarray | jax.Array) -> float:
    wide = np.asarray(expected, np.float64)
    assert computed.shape == wide.shape
    return float(np.abs(np.asarray(computed, np.float64) - wide).max() / np.abs(wide).max())


@pytest.mark.slow
def test_outputs_of_the_network() -> None:
    network = unet_2d(found().config, found().arrays)
    assert sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array))) == 1_525_411
    out = jax.jit(jax.vmap(network))(images("x"), jnp.asarray(recorded()["t"], jnp.float32))
    assert error(out, images("out")) < BOUND


def test_the_schedule_and_its_noise() -> None:
    schedule = own_schedule(teacher())
    assert error(np.asarray(schedule.alphas_cumprod), recorded()["alphas_cumprod"]) < BOUND
    sigma = schedule.sigmas[recorded()["t"]][:, None, None, None]
    noised = (images("x") + sigma * images("noise")) / np.sqrt(1 + sigma**2)
    assert error(noised, images("add_noise")) < BOUND


@pytest.mark.slow
def test_the_denoiser_at_every_step() -> None:
    """x_t = alpha_t x_sigma and D = x_sigma - sigma eps."""
    sigma = jnp.asarray(own_schedule(teacher()).sigmas[recorded()["t"]], jnp.float32)
    column = sigma[:, None, None, None]
    x_sigma = images("x") * jnp.sqrt(1 + column**2)
    denoised = jax.jit(jax.vmap(teacher().denoise))(x_sigma, sigma)
    assert error((x_sigma - denoised) / column, images("out")) < 1e-4  # a difference at sigma = 0.01, and 157


@pytest.mark.slow
def test_samples() -> None:
    """Of 10 clipped steps, in which random weights make a thousand out of one rounding: against double precision.

    The recorded samples are 1.1e-3 from it, in images of [-1, 1].
    """
    config, sigmas, x = found().config, own_schedule(teacher()).sigmas, recorded()["x"].astype(np.float64)
    exact = Reference(dict(config), found().arrays)
    steps = recorded()["ddim_timesteps"]
    for time, after in zip(steps, [*steps[1:], None], strict=True):
        low, high = 0.0 if after is None else sigmas[after], sigmas[time]
        eps = np.stack([exact(image, float(time)) for image in x])
        clean = np.clip(np.sqrt(1 + high**2) * x - high * eps, -1, 1)
        x = (clean + low * eps) / np.sqrt(1 + low**2)
    sampler = diffusers_ddim(config, len(steps))
    out = jax.jit(jax.vmap(lambda noise: sampler.solve(noise, teacher())))(images("x"))
    assert error(out, images("ddim_out")) < 3e-3
    own, theirs = error(out, np.moveaxis(x, 1, -1)), error(images("ddim_out"), np.moveaxis(x, 1, -1))
    assert own < 2 * theirs < 1e-2
