"""Features that the user brings to judge images by: a trained classifier's file, or any function."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxtyping import Array

from pplemd.errors import DataError
from pplemd.importers import read_classifier
from pplemd.metrics import AbstractFeatures, GivenFeatures


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
