"""SiD and DMD against recorded values of SiD's published loss, on EDM's ADM network at 16 x 16."""

import functools
import json
import zlib
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from training_steps import at, distilling

import pplemd as em
from pplemd.algorithms import DMD, SiD
from pplemd.algorithms.distillation import Noised, Pulled
from pplemd.conditions import Classes, Labels
from pplemd.diffusion import EDMWeight, KarrasUniform, LogNormal
from pplemd.dsl import trace
from pplemd.importers import blank, edm_denoiser
from pplemd.importers.edm import slots
from pplemd.learning import denoising_loss

PARITY = Path(__file__).parents[3].parent / "shared" / "parity"
BOUND = 1e-4  # of the largest error, relative to the largest value, in single precision
SHAPE = (16, 16, 3)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PARITY.is_dir(), reason="the recorded values are not at hand")]


@functools.cache
def recorded(name: str) -> dict[str, np.ndarray]:
    with np.load(PARITY / f"{name}.npz") as file:
        return dict(file)


def images(array: np.ndarray) -> jax.Array:
    """Channels last, in single precision."""
    return jnp.asarray(np.moveaxis(array, 1, -1).astype(np.float32))


def error(found: jax.Array, expected) -> float:
    wide = np.asarray(expected, np.float64)
    assert found.shape == wide.shape
    return float(np.abs(np.asarray(found, np.float64) - wide).max() / np.abs(wide).max())


def perturbed(key: str, array: np.ndarray) -> np.ndarray:
    """The recorded fake network's array: the teacher's, moved by a twentieth of its standard deviation."""
    if key.endswith("resample_filter"):
        return array
    noise = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(array.shape)
    return (array + 0.05 * array.std(ddof=1) * noise).astype(np.float32)


@functools.cache
def networks():
    """The teacher, and the student's score network."""
    config = json.loads(str(recorded("edm_adm")["config"]))
    weights = {key[3:]: value for key, value in recorded("edm_adm").items() if key.startswith("sd/")}
    fake = {key: perturbed(key, array) for key, array in weights.items()}
    return edm_denoiser(config, weights), edm_denoiser(config, fake)


class Shifted(em.Program):
    """x = z + shift: the gradient in the shift is that in the image."""

    shift: jax.Array

    def __call__(self, label):
        return em.generate("x", em.latent("z", dist.Normal(jnp.zeros(SHAPE), 1.0)) + self.shift)


def prepared(algorithm):
    teacher, fake = networks()
    program = Shifted(jnp.zeros(SHAPE))
    problem = trace(program, shape=SHAPE, condition=Classes(10))
    return distilling(problem, teacher, Labels((1.0,) * 10), algorithm, batch=4), at(program, fake)


def draws() -> Noised:
    """The recorded images, as latents, with the recorded noise."""
    data = recorded("sid_loss")
    labels = jnp.asarray(data["labels"].argmax(1), jnp.int32)
    sigma = jnp.asarray(data["sigma_g"].reshape(-1))
    return Noised({"z": images(data["images"])}, images(data["gen_unit_noise"]), sigma, labels)


def by_image(step, now, drawn):
    """The loss of each image, and its gradient in it."""

    @eqx.filter_jit
    def both(step, now, drawn):
        def one(row):
            single = jax.tree.map(lambda leaf: leaf[None], row)
            of = lambda p: step.algorithm.loss(p, step.context, now, single)[0]  # noqa: E731
            return of(now.networks["generator"]), jax.grad(of)(now.networks["generator"]).shift

        return jax.lax.map(one, drawn)

    return both(step, now, drawn)


def test_sids_loss_and_gradient():
    """With alpha = 1.2 and its weight by sample; the loss is recorded by entry, its sum is taken."""
    data, algorithm = recorded("sid_loss"), SiD(alpha=float(recorded("sid_loss")["alpha"]))
    losses, slopes = by_image(*prepared(algorithm), draws())
    assert error(losses, data["gen_loss"].sum((1, 2, 3), dtype=np.float64)) < BOUND
    assert error(slopes, images(data["gen_grad_images"])) < BOUND
    other, _ = by_image(*prepared(SiD(alpha=1.0)), draws())
    assert error(other, data["gen_loss"].sum((1, 2, 3), dtype=np.float64)) > 100 * BOUND


def test_dmds_gradient():
    data, (step, now) = recorded("sid_loss"), prepared(DMD())
    drawn = draws()
    seen = eqx.filter_jit(DMD().denoised)(now.networks["generator"], step.context, now, drawn)
    assert error(seen.teacher, images(data["D_real"])) < BOUND
    assert error(seen.student, images(data["D_fake"])) < BOUND
    pull = jax.vmap(lambda one: (one.teacher - one.student) / one.scale)(seen)
    pulled = Pulled(drawn.latents, drawn.conditions, drawn.sigma, pull)
    _, slopes = by_image(step, now, pulled)
    assert error(slopes, images(data["dmd_grad"])) < BOUND


def test_noise_levels_of_the_generator_and_of_the_score_network():
    data = recorded("sid_loss")
    levels = KarrasUniform(until=float(data["tmax"]) / 1000)
    assert error(levels.at(jnp.asarray(data["gen_t_draw"])), data["sigma_g"]) < BOUND
    normal = LogNormal(-1.2, 1.2)
    assert error(jnp.exp(normal.mean + normal.std * jnp.asarray(data["fake_normal_draw"])), data["sigma_f"]) < BOUND


def test_the_score_networks_loss_and_gradient(monkeypatch):
    """EDM's loss on the student's images; it is recorded by entry, the library takes the mean."""
    data, (_, fake) = recorded("sid_loss"), networks()
    noise = images(data["fake_unit_noise"])
    monkeypatch.setattr(jax.random, "normal", lambda key, shape, *rest: noise)
    labels, sigma = jnp.asarray(data["labels"].argmax(1), jnp.int32), jnp.asarray(data["sigma_f"].reshape(-1))
    layouts = blank(lambda: fake.network)
    keys = {id(slot.leaf): slot.key for slot in slots(layouts)}
    marks = jax.tree.map(lambda leaf: f"fake_grad/{keys[id(leaf)]}" in data, layouts)
    moved, held = eqx.partition(fake, eqx.tree_at(lambda d: d.network, fake, marks))

    @eqx.filter_jit
    def both(moved, held, x):
        def loss(moved):
            return denoising_loss(
                eqx.combine(moved, held), jax.random.key(0), x, sigma, labels, EDMWeight(fake.sigma_data)
            )

        return eqx.filter_value_and_grad(loss)(moved)

    value, slope = both(moved, held, images(data["images"]))
    expected = data["fake_loss"].astype(np.float64)
    assert abs(float(value) - expected.mean()) < BOUND * expected.mean()
    places = {slot.key: (slot.leaf, slot.layout) for slot in slots(layouts)}
    leaves, found = (jax.tree.leaves(tree, is_leaf=lambda leaf: leaf is None) for tree in (layouts, slope.network))
    by_leaf = {id(leaf): gradient for leaf, gradient in zip(leaves, found, strict=True)}
    recorded_keys = [key[10:] for key in data if key.startswith("fake_grad/")]
    assert len(recorded_keys) == 4
    scales = []
    for key in recorded_keys:
        leaf, layout = places[key]
        theirs = np.asarray(layout.convert(data[f"fake_grad/{key}"]), np.float64)
        ours = np.asarray(by_leaf[id(leaf)], np.float64)
        scales.append(np.sum(ours * theirs) / np.sum(theirs**2))  # theirs is of the sum over entries, or over images
        assert error(jnp.asarray(ours / scales[-1]), theirs) < BOUND, key
    np.testing.assert_allclose(scales, scales[0], rtol=BOUND)
    of_sum, of_sum_by_image = 1 / expected.size, 4 / expected.size
    assert min(abs(scales[0] / scale - 1) for scale in (1.0, of_sum, of_sum_by_image)) < BOUND
