"""Classifiers that others trained, by the names of their arrays: networks whose features judge samples."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from pplemd.errors import DataError, ImporterError
from pplemd.importers.filling import CONV, LINEAR, Layout, Slot, blank, check_volume, fill
from pplemd.importers.network_places import network_at, places
from pplemd.importers.weights import read_arrays
from pplemd.metrics import AbstractFeatures, GivenFeatures
from pplemd.networks.classifiers import AbstractClassifier, LeNet, ResNet
from pplemd.networks.layers import Conv, Linear

Arrays = Mapping[str, np.ndarray]
DEEPEST = 600  # blocks of the largest of the residual networks, that of 1,202 layers
COUNTER = "num_batches_tracked"  # of batches in training: of no effect on what a network computes


def read_classifier(path: Path | str) -> AbstractClassifier:
    """A trained classifier of images, from a file of its weights; which one is seen by their names.

    Known are LeNet-5 as in abdulfatir/gan-metrics-pytorch (`convnet.c1` to `fc.f7`, MNIST) and the residual networks of
    CIFAR-10 as in akamaster/pytorch_resnet_cifar10 (`layer1.0.conv1`, 20 layers or more).

    Args:
        path: an .npz ("sd/NAME" or NAME for each array), a .safetensors, or a state dict of torch.save.

    Raises:
        ImporterError: a file that cannot be read, is of another network, or lacks arrays; nothing of it is executed.
    """
    arrays = read_arrays(path)
    try:
        return classifier(arrays)
    except ImporterError as error:
        raise ImporterError(f"{path}: {error}") from error


def classifier(arrays: Arrays) -> AbstractClassifier:
    """The classifier that a state dict is of.

    Raises:
        ImporterError: one that is not known, or arrays that do not fit.
    """
    for key, build in _FAMILIES.items():
        if places({"": arrays}, (key,)):
            return build(network_at({"": arrays}, (key,), "a classifier")[0])
    found = ", ".join(ascii(name)[1:-1][:40] for name in sorted(arrays)[:4]) or "none at all"
    raise ImporterError(
        f"found arrays that no classifier known here has ({found}); expected LeNet-5's "
        "(convnet.c1.weight, ...) or those of a residual network of CIFAR-10 (layer1.0.conv1.weight, ...). Give any "
        "other network as a JAX function: em.features(function)."
    )


def _lenet(arrays: Arrays) -> LeNet:
    layers = ("convnet.c1", "convnet.c3", "convnet.c5", "fc.f6", "fc.f7")
    c1, c3, c5, f6, classes = (_size_out(arrays, layer) for layer in layers)
    network = blank(lambda: LeNet((c1, c3, c5, f6, classes), key=jax.random.key(0)))
    dense = Layout(  # a 5 x 5 convolution of a 5 x 5 image: (out, in, h, w) -> (h w in, out)
        lambda ours: (ours[1], ours[0] // 25, 5, 5), lambda array: array.transpose(2, 3, 1, 0).reshape(-1, len(array))
    )
    places: dict[str, tuple[Conv | Linear, Layout]] = {
        "convnet.c1": (network.first, CONV),
        "convnet.c3": (network.second, CONV),
        "convnet.c5": (network.third, dense),
        "fc.f6": (network.fourth, LINEAR),
        "fc.f7": (network.last, LINEAR),
    }
    slots = []
    for key, (layer, layout) in places.items():
        slots += [Slot(layer.weight, f"{key}.weight", layout), Slot(layer.bias, f"{key}.bias")]
    return fill(network, slots, arrays)


def _resnet(arrays: Arrays) -> ResNet:
    blocks = {tuple(key.split(".")[:2]) for key in arrays if key.startswith("layer") and key.count(".") > 1}
    check_volume(arrays, len(blocks), most=DEEPEST)
    stages = sorted({stage for stage, _ in blocks})
    counts = tuple(sum(first == stage for first, _ in blocks) for stage in stages)
    widths = tuple(_size_out(arrays, f"{stage}.0.conv1") for stage in stages)
    classes = _size_out(arrays, "linear")
    network = blank(lambda: ResNet(counts, widths, classes, key=jax.random.key(0)))
    return fill(network, _resnet_slots(network, stages), arrays, ignored=lambda name: name.endswith(COUNTER))


def _resnet_slots(network: ResNet, stages: list[str]) -> Iterator[Slot]:
    yield Slot(network.last.weight, "linear.weight", LINEAR)
    yield Slot(network.last.bias, "linear.bias")
    convs = {("conv1", "bn1"): network.stem}
    for stage, blocks in zip(stages, network.blocks, strict=True):
        for i, block in enumerate(blocks):
            convs[f"{stage}.{i}.conv1", f"{stage}.{i}.bn1"] = block.first
            convs[f"{stage}.{i}.conv2", f"{stage}.{i}.bn2"] = block.second
    for (conv, norm), ours in convs.items():
        yield Slot(ours.weight, f"{conv}.weight", CONV)
        yield Slot(ours.scale, f"{norm}.weight")
        yield Slot(ours.shift, f"{norm}.bias")
        yield Slot(ours.mean, f"{norm}.running_mean")
        yield Slot(ours.variance, f"{norm}.running_var")


def _size_out(arrays: Arrays, layer: str) -> int:
    """How many features a layer has, by the first axis of its weights.

    Raises:
        ImporterError: where it has none.
    """
    shape = np.shape(arrays[f"{layer}.weight"]) if f"{layer}.weight" in arrays else ()
    if len(shape) < 2 or 0 in shape:
        raise ImporterError(
            f"found {f'an array of shape {shape}' if shape else 'no array'} under {layer}.weight; expected the weights "
            "of a layer. Check that the file is whole."
        )
    return shape[0]


_FAMILIES: dict[str, Callable[[Arrays], AbstractClassifier]] = {
    "convnet.c1.weight": _lenet,
    "layer1.0.conv1.weight": _resnet,
}


def features(
    source: Path | str | Callable[[Array], Array] | Any, classify: Callable[[Array], Array] | None = None
) -> AbstractFeatures:
    """Features for `em.metrics.ImageEvaluation(data, features=...)`.

        em.features("lenet.npz")                 # a classifier that is known: LeNet-5, a residual network of CIFAR-10
        em.features(network)                     # any JAX function of one image in [-1, 1]
        em.features(network, classify=head)      # and one from its vector to the classes' logits

    Args:
        source: the path of a classifier's weights (.npz, .safetensors or a state dict of torch.save), or a function
            from one sample to a vector.
        classify: from that vector to one number for each class, so that the class that samples are read as can be
            judged; a file's classifier has its own.

    Raises:
        ImporterError: a file that cannot be read, or is of a network that is not known.
        DataError: neither a path nor a function, or a file with a `classify`.
    """
    if isinstance(source, Path | str):
        if classify is not None:
            raise DataError(
                f"found classify= beside the file {source}, expected the file alone: its classifier has classes of its "
                "own; give a function in place of the file to use another"
            )
        network = read_classifier(source)
        return GivenFeatures(network.features, network.logits)
    if not callable(source):
        raise DataError(
            f"found a {type(source).__name__} as features, expected a path or a function of one sample: "
            "em.features('lenet.npz') or em.features(network)"
        )
    return GivenFeatures(source, classify)
