import numpy as np
from sklearn.datasets import load_digits

from pplemd.data import digits


def test_digits_are_scaled_and_labelled():
    found = digits()
    assert found.shape == (8, 8, 1)
    assert found.classes == 10
    assert (found.train.x.dtype, found.train.label.dtype) == (np.float32, np.int32)
    assert (found.train.x.min(), found.train.x.max()) == (-1.0, 1.0)
    whole = load_digits()
    pairs = {(bytes(image.astype(np.uint8)), label) for image, label in zip(whole.images, whole.target, strict=True)}
    for split in (found.train, found.test):
        levels = ((split.x[..., 0] + 1.0) * 8.0).astype(np.uint8)
        assert {(bytes(image), label) for image, label in zip(levels, split.label, strict=True)} <= pairs


def test_splits_are_disjoint_and_stratified():
    found = digits(test_fraction=0.3, seed=1)
    train, test = ({bytes(image) for image in split.x} for split in (found.train, found.test))
    assert len(found.train.x) + len(found.test.x) == 1797
    assert not train & test
    total = np.bincount(load_digits().target)
    assert np.abs(np.bincount(found.test.label) - 0.3 * total).max() <= 0.5


def test_the_seed_settles_the_split():
    assert digits().digest() == digits().digest()
    assert digits(seed=1).digest() != digits().digest()
