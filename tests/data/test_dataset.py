import numpy as np
import pytest

from pplemd.data import Dataset, Split, held_out, mirrored
from pplemd.errors import DataError


def _x(count=10, shape=(4, 4, 1), seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *shape)).astype(np.float32)


def _label(count=10, classes=2):
    return (np.arange(count) % classes).astype(np.int32)


def _with(value):
    x = _x()
    x[3, 1, 1, 0] = value
    return x


BAD_SPLITS = {
    "nan": (_with(np.nan), None, "NaN"),
    "infinity": (_with(np.inf), None, "infinity"),
    "above the range": (_with(1.01), None, r"\[-1, 1\]"),
    "below the range": (_with(-1.01), None, r"\[-1, 1\]"),
    "no samples": (_x(0), None, "at least one sample"),
    "no batch dimension": (_x(4, ()), None, "batch dimension first"),
    "float64": (_x().astype(np.float64), None, "float32"),
    "label count": (_x(10), _label(9), r"expected \(10,\)"),
    "label dtype": (_x(10), _label(10).astype(np.int64), "int32"),
    "negative label": (_x(10), _label(10) - np.int32(1), "from 0"),
}


@pytest.mark.parametrize(("x", "label", "message"), BAD_SPLITS.values(), ids=BAD_SPLITS)
def test_split_refuses(x, label, message):
    with pytest.raises(DataError, match=message):
        Split(x, label)


@pytest.mark.parametrize("edge", [1.0009, -1.0009])
def test_split_tolerates_rounding(edge):
    assert Split(_with(np.float32(edge))).label is None


BAD_DATASETS = {
    "shapes": (Split(_x()), Split(_x(shape=(4, 4, 3))), None, "one shape"),
    "one label": (Split(_x(), _label()), Split(_x()), 2, "all three or none"),
    "no classes": (Split(_x(), _label()), Split(_x(), _label()), None, "all three or none"),
    "classes alone": (Split(_x()), Split(_x()), 2, "all three or none"),
    "too few classes": (Split(_x(), _label()), Split(_x(), _label(classes=3)), 2, "pass classes=3"),
}


@pytest.mark.parametrize(("train", "test", "classes", "message"), BAD_DATASETS.values(), ids=BAD_DATASETS)
def test_dataset_refuses(train, test, classes, message):
    with pytest.raises(DataError, match=message):
        Dataset(train, test, classes)


def test_digest_is_of_the_content():
    first, same = held_out(_x(), _label()), held_out(_x(), _label())
    assert first.digest() == same.digest()
    assert len(first.digest()) == 64
    changed = first.train.x.copy()
    changed[0, 0, 0, 0] = 0.5
    others = [
        Dataset(Split(changed, first.train.label), first.test, first.classes),
        Dataset(Split(first.train.x, 1 - first.train.label), first.test, first.classes),
        Dataset(first.train, first.test, 3),
        Dataset(Split(first.train.x), Split(first.test.x)),
        Dataset(first.test, first.train, first.classes),
    ]
    assert len({first.digest()} | {other.digest() for other in others}) == 6


def test_shape_is_of_one_sample():
    assert held_out(_x(shape=(5, 3, 1))).shape == (5, 3, 1)
    assert held_out(_x(shape=(2,))).shape == (2,)


def test_held_out_parts_every_sample_once_and_follows_the_seed():
    x = _x(41)
    splits = held_out(x, test_fraction=0.2, seed=3)
    both = np.concatenate([splits.train.x, splits.test.x])
    assert len(splits.test.x) == 8
    assert sorted(map(bytes, both)) == sorted(map(bytes, x))
    np.testing.assert_array_equal(held_out(x, test_fraction=0.2, seed=3).test.x, splits.test.x)
    assert not np.array_equal(held_out(x, test_fraction=0.2, seed=4).test.x, splits.test.x)


def test_held_out_keeps_labels_beside_their_samples():
    label = np.repeat(np.arange(3), [2, 8, 40]).astype(np.int32)
    x = (label / 4.0).astype(np.float32)[:, None] * np.ones((1, 2), np.float32)
    splits = held_out(x, label)
    assert splits.classes == 3
    for split in (splits.train, splits.test):
        np.testing.assert_array_equal(split.x[:, 0] * 4.0, split.label)
    assert np.bincount(splits.test.label).tolist() == [1, 2, 10]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 2.0])
def test_held_out_refuses_fractions(fraction):
    with pytest.raises(DataError, match="between 0 and 1"):
        held_out(_x(), test_fraction=fraction)


def test_held_out_refuses_what_it_cannot_part():
    with pytest.raises(DataError, match="of class 1"):
        held_out(_x(3), np.array([0, 0, 1], np.int32))
    with pytest.raises(DataError, match="in all"):
        held_out(_x(1))


def test_mirrored_doubles_what_is_learned_from_and_nothing_else():
    x = _x(6, (2, 3, 1))
    data = Dataset(Split(x[:4], _label(4)), Split(x[4:], _label(2)), 2)
    both = mirrored(data)
    np.testing.assert_array_equal(both.train.x[:4], x[:4])
    np.testing.assert_array_equal(both.train.x[4:, :, 0], x[:4, :, 2])
    np.testing.assert_array_equal(both.train.label, np.tile(data.train.label, 2))
    assert both.test is data.test
    assert both.classes == 2
    assert mirrored(Dataset(Split(x[:4]), Split(x[4:]))).train.label is None


def test_mirrored_refuses_what_is_no_image():
    with pytest.raises(DataError, match="no mirror image"):
        mirrored(Dataset(Split(_x(4, (3,))), Split(_x(2, (3,)))))
