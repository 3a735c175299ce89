"""EDM's networks against recorded values of the originals: outputs, gradients, samples, distribution matching."""

import functools
import json
import zlib
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pplemd.diffusion import karras_grid, precondition
from pplemd.importers import blank, edm_denoiser
from pplemd.importers.edm import slots
from pplemd.networks import DhariwalUNet, UNetOptions
from pplemd.teachers import Denoiser, HeunSampler

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
NAMES = ("edm_ddpmpp", "edm_adm")
BOUND = 2e-5  # of the largest error, relative to the largest value, in single precision

pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason="the recorded values are not at hand")
everything = pytest.mark.parametrize("name", NAMES)


@functools.cache
def recorded(name: str) -> dict[str, np.ndarray]:
    with np.load(PARITY / f"{name}.npz") as file:
        return dict(file)


def weights(name: str) -> dict[str, np.ndarray]:
    return {key[3:]: value for key, value in recorded(name).items() if key.startswith("sd/")}


@functools.cache
def teacher(name: str) -> Denoiser:
    return edm_denoiser(json.loads(str(recorded(name)["config"])), weights(name))


def images(array: np.ndarray) -> jax.Array:
    """Channels last, in single precision."""
    return jnp.asarray(np.moveaxis(array, 1, -1).astype(np.float32))


def error(found: jax.Array, expected: np.ndarray | jax.Array) -> float:
    wide = np.asarray(expected, np.float64)
    assert found.shape == wide.shape
    return float(np.abs(np.asarray(found, np.float64) - wide).max() / np.abs(wide).max())


def learned(denoiser: Denoiser, name: str) -> Denoiser:
    """True at the arrays whose gradients were recorded, False at the others."""
    layouts = blank(lambda: denoiser.network)
    keys = {id(slot.leaf): slot.key for slot in slots(layouts)}
    marks = jax.tree.map(lambda leaf: f"grad/{keys[id(leaf)]}" in recorded(name), layouts)
    return Denoiser(marks, denoiser.sigma_data)


@eqx.filter_jit
def evaluated(moved, held, x, sigmas, labels, augments, cotangent):
    """The pull-back of a cotangent to some arrays of a denoiser and to x; denoised and raw images beside it."""

    def pulled(moved):
        denoiser, x = eqx.combine(moved[0], held), moved[1]

        def one(x, sigma, label, augment):
            at = precondition(sigma, denoiser.sigma_data)
            raw = denoiser.network(at.scale_in * x, at.noise, label, None, augment)
            return at.skip * x + at.out * raw, raw, at.noise

        denoised, raw, noise = jax.vmap(one)(x, sigmas, labels, augments)
        return jnp.sum(denoised * cotangent), (denoised, raw, noise)

    return eqx.filter_value_and_grad(pulled, has_aux=True)((moved, x))


def ask(name: str, labels: np.ndarray | None = None, augments: np.ndarray | None = None):
    """(denoised, raw, noise), (gradient of the denoiser, of x) at the recorded inputs; a zero vector tells nothing."""
    data = recorded(name)
    labels = data["labels"].argmax(1) if labels is None else labels
    augments = np.zeros((4, 9), np.float32) if augments is None else augments
    told = jnp.asarray(augments) if name == "edm_ddpmpp" else None
    inputs = jnp.asarray(data["sigma"]), jnp.asarray(labels), told, images(data["cot"])
    moved, held = eqx.partition(teacher(name), learned(teacher(name), name))
    (_, outputs), gradients = evaluated(moved, held, images(data["x"]), *inputs)
    return outputs, gradients


@pytest.mark.slow
@pytest.mark.slow_for("edm_adm")
@everything
def test_outputs_and_gradients(name: str) -> None:
    data = recorded(name)
    (denoised, raw, noise), (slope, slope_x) = ask(name)
    assert error(denoised, images(data["D"])) < BOUND
    assert error(raw, images(data["F"])) < BOUND
    assert error(noise, data["c_noise"]) < 1e-6
    assert error(slope_x, images(data["vjp_x"])) < BOUND
    layouts = blank(lambda: teacher(name).network)
    places = {slot.key: (slot.leaf, slot.layout) for slot in slots(layouts)}
    leaves, found = (jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None) for tree in (layouts, slope.network))
    by_leaf = {id(leaf): gradient for leaf, gradient in zip(leaves, found, strict=True)}
    keys = [key[5:] for key in data if key.startswith("grad/")]
    assert len(keys) == 12
    for key in keys:
        leaf, layout = places[key]
        assert error(by_leaf[id(leaf)], layout.convert(data[f"grad/{key}"])) < BOUND, key


@pytest.mark.slow_for("edm_adm")
@everything
def test_no_label_is_a_zero_vector(name: str) -> None:
    (denoised, _, _), _ = ask(name, labels=np.full(4, -1))
    assert error(denoised, images(recorded(name)["D_null"])) < BOUND


def test_augmentation() -> None:
    data = recorded("edm_ddpmpp")
    (denoised, _, _), _ = ask("edm_ddpmpp", augments=data["augment_labels"])
    assert error(denoised, images(data["D_aug"])) < BOUND
    assert error(denoised, images(data["D"])) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[:1])
def test_samples(name: str) -> None:
    """Those of the ADM network are compared by tests/benchmarks/parity_fullsize.py: they are dear to compile."""
    data, sampler = recorded(name), HeunSampler()
    run = jax.jit(jax.vmap(lambda noise, label: sampler.solve(noise, teacher(name), label)))
    found = run(images(data["latents"]), jnp.asarray(data["labels"].argmax(1)[:2]))
    assert error(found, images(data["heun"])) < BOUND


def test_the_grid_is_edms() -> None:
    ramp = np.arange(18) / 17
    expected = (80 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(karras_grid(18, 0.002, 80.0), [*expected, 0.0], rtol=1e-5)


def perturbed(key: str, array: np.ndarray) -> np.ndarray:
    """The recorded fake network's array: the teacher's, moved by a twentieth of its standard deviation."""
    if key.endswith("resample_filter"):
        return array
    noise = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(array.shape)
    return (array + 0.05 * array.std(ddof=1) * noise).astype(np.float32)


def test_gradient_of_distribution_matching() -> None:
    """(D_fake - D_real) / mean |x - D_real|: arXiv:2311.18828, equations 7 and 8, with weights by image."""
    data, config = recorded("sid_loss"), json.loads(str(recorded("edm_adm")["config"]))
    fake = edm_denoiser(config, {key: perturbed(key, array) for key, array in weights("edm_adm").items()})
    x, sigmas = images(data["images"]), jnp.asarray(data["sigma_g"].reshape(-1))
    x_sigma = x + sigmas[:, None, None, None] * images(data["gen_unit_noise"])
    rest = sigmas, jnp.asarray(data["labels"].argmax(1)), None, jnp.zeros_like(x)
    parts = [eqx.partition(denoiser, learned(denoiser, "edm_adm")) for denoiser in (teacher("edm_adm"), fake)]
    real, faked = (evaluated(moved, held, x_sigma, *rest)[0][1][0] for moved, held in parts)
    assert error(real, images(data["D_real"])) < BOUND
    assert error(faked, images(data["D_fake"])) < BOUND
    gradient = (faked - real) / jnp.abs(x - real).mean((1, 2, 3), keepdims=True)
    assert error(gradient, images(data["dmd_grad"])) < BOUND


def test_every_array_of_the_imagenet_checkpoint_has_its_place() -> None:
    """Its names and shapes alone; python tests/benchmarks/parity_fullsize.py compares what it computes."""
    shapes = json.loads((PARITY / "edm_imagenet64_keys.json").read_text())
    options = UNetOptions((64, 64, 3), 192, (1, 2, 3, 4), blocks=3, attention=(32, 16, 8), classes=1000)
    network = blank(lambda: DhariwalUNet(options, key=jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(network)) == 295_899_267
    found = {slot.key: slot.layout.original(slot.leaf.shape) for slot in slots(network)}
    assert len(shapes) == 553
    assert found == {key: tuple(shape) for key, shape in shapes.items() if not key.endswith("resample_filter")}
