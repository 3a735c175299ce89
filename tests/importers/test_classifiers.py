"""Classifiers of others become features: recorded values, real images, and files that do not fit."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pplemd as em
from pplemd.errors import ImporterError
from pplemd.importers import read_classifier
from pplemd.importers.classifiers import classifier
from pplemd.importers.weights import write_safetensors

SHARED = Path(__file__).parents[2].parent / "shared"
LENET, RESNET = SHARED / "parity" / "feat_lenet_mnist.npz", SHARED / "parity" / "feat_resnet20_cifar10.npz"
MNIST, CIFAR = SHARED / "data" / "mnist.npz", SHARED / "data" / "cifar10_10k.npz"

recorded = pytest.mark.skipif(not (LENET.is_file() and RESNET.is_file()), reason="the recorded values are not at hand")
real = pytest.mark.skipif(not (LENET.is_file() and MNIST.is_file() and CIFAR.is_file()), reason="no images at hand")


@functools.cache
def record(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {key: file[key] for key in file.files}


def images(x: np.ndarray) -> np.ndarray:
    """In [-1, 1], from images in [0, 1] of 32 x 32 pixels, channels first."""
    return (2 * np.moveaxis(x, 1, -1) - 1).astype(np.float32)


@pytest.mark.slow_for("resnet20")
@recorded
@pytest.mark.parametrize("path", [LENET, RESNET], ids=["lenet", "resnet20"])
def test_features_and_logits_are_the_original_s(path):
    values = record(path)
    x = images(values["x32" if path == LENET else "x"])
    network = read_classifier(path)
    found = em.features(path).features(x)
    np.testing.assert_allclose(found, values["features"], atol=2e-5 * abs(values["features"]).max())
    logits = jax.vmap(network.logits)(jnp.asarray(found))
    np.testing.assert_allclose(logits, values["logits"], atol=2e-5 * abs(values["logits"]).max())
    np.testing.assert_array_equal(em.features(path).labels_of(found), values["logits"].argmax(1))


@real
def test_lenet_reads_held_out_digits():
    """98.8 % of the 10,000 by its authors; of 1,000, 4 standard errors below."""
    with np.load(MNIST) as file:
        x, label = file["x_test"][:1000], file["y_test"][:1000]
    given = em.features(LENET)
    accuracy = (given.labels_of(given.features((x / 127.5 - 1).astype(np.float32))) == label).mean()
    assert accuracy > 0.988 - 4 * np.sqrt(0.988 * 0.012 / 1000)


@real
def test_resnet_reads_images():
    """Of the images that it was trained on, which are at hand, it reads more than the 91 % of those held out."""
    with np.load(CIFAR) as file:
        x, label = file["x_train"][:300], file["y_train"][:300]
    given = em.features(RESNET)
    accuracy = (given.labels_of(given.features((x / 127.5 - 1).astype(np.float32))) == label).mean()
    assert accuracy > 0.91


def lenet_arrays() -> dict[str, np.ndarray]:
    shapes = {"convnet.c1": (2, 1, 5, 5), "convnet.c3": (3, 2, 5, 5), "convnet.c5": (7, 3, 5, 5), "fc.f6": (5, 7)}
    return _drawn({**shapes, "fc.f7": (4, 5)})


def resnet_arrays(blocks: int = 2) -> dict[str, np.ndarray]:
    shapes, before = {"conv1": (4, 3, 3, 3)}, 4
    for stage, width in enumerate((4, 8, 16), 1):
        for block in range(blocks):
            shapes[f"layer{stage}.{block}.conv1"] = (width, before, 3, 3)
            shapes[f"layer{stage}.{block}.conv2"] = (width, width, 3, 3)
            before = width
    arrays = _drawn(shapes, biases=False)
    for name, shape in shapes.items():
        norm = name.replace("conv", "bn")
        for part in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{norm}.{part}"] = np.random.default_rng(len(arrays)).uniform(0.5, 1.5, shape[0])
        arrays[f"{norm}.num_batches_tracked"] = np.array(7)
    return arrays | _drawn({"linear": (6, 16)})


def _drawn(shapes: dict[str, tuple[int, ...]], biases: bool = True) -> dict[str, np.ndarray]:
    rng, arrays = np.random.default_rng(1), {}
    for name, shape in shapes.items():
        arrays[f"{name}.weight"] = rng.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))
        if biases:
            arrays[f"{name}.bias"] = rng.standard_normal(shape[0]).astype(np.float32)
    return arrays


def test_sizes_are_read_off_the_arrays():
    network = classifier(lenet_arrays())
    assert classes(network, (28, 28, 1)) == (4,)
    network = classifier(resnet_arrays())
    assert [len(stage) for stage in network.blocks] == [2, 2, 2]
    assert classes(network, (32, 32, 3)) == (6,)


def classes(network, shape: tuple[int, ...]) -> tuple[int, ...]:
    return jax.eval_shape(lambda x: network.logits(network.features(x)), jnp.zeros(shape)).shape


def test_the_dense_layers_read_pixels_as_the_convolution_did():
    arrays = lenet_arrays()
    network = classifier(arrays)
    seen = np.random.default_rng(2).standard_normal((5, 5, 3)).astype(np.float32)
    expected = np.einsum("hwi,oihw->o", seen, arrays["convnet.c5.weight"]) + arrays["convnet.c5.bias"]
    np.testing.assert_allclose(network.third(jnp.asarray(seen.reshape(-1))), expected, atol=1e-5)


def test_every_format_is_the_same_network(tmp_path):
    arrays = {name: array for name, array in resnet_arrays().items() if "tracked" not in name}
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez(tmp_path / "prefixed.npz", x=np.ones(2), **{f"sd/module.{name}": array for name, array in arrays.items()})
    write_safetensors(tmp_path / "weights.safetensors", arrays)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    found = [em.features(path).features(x) for path in sorted(tmp_path.iterdir())]
    assert len(found) == 3
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no classifier known here has"),
        ({"a.weight": np.zeros(3)}, r"\(a.weight\); expected LeNet-5's"),
        (lenet_arrays() | {"fc.f6.weight": np.zeros((5, 9))}, r"shape of fc.f6.weight: found \(5, 9\)"),
        (lenet_arrays() | {"fc.f7.weight": np.zeros(())}, "no array under fc.f7.weight"),
        ({k: v for k, v in lenet_arrays().items() if k != "fc.f6.bias"}, "missing: fc.f6.bias"),
        (lenet_arrays() | {"fc.f8.bias": np.zeros(3)}, "left over: fc.f8.bias"),
        (lenet_arrays() | {"fc.f7.bias": np.full(4, np.nan)}, "not finite: 4 of 4"),
        ({k: v for k, v in resnet_arrays().items() if "bn1.running_var" not in k}, "missing: bn1.running_var"),
        ({k: v for k, v in resnet_arrays().items() if k != "linear.weight"}, "no array under linear.weight"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(ImporterError, match=message) as error:
        em.features(tmp_path / "weights.npz")
    assert "weights.npz" in str(error.value)


def test_files_that_are_none(tmp_path):
    (tmp_path / "text.npz").write_text("no weights")
    for name in ("text.npz", "nothing.npz", "nothing.safetensors"):
        with pytest.raises(ImporterError, match=name):
            em.features(tmp_path / name)
