import io
import zipfile

import numpy as np
import pytest

from pplemd.data import arrays, npz, npz_images
from pplemd.errors import DataError


def _bytes(count=20, shape=(6, 5, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


@pytest.fixture
def write(tmp_path):
    def save(**content):
        np.savez(tmp_path / "data.npz", **content)
        return tmp_path / "data.npz"

    return save


def _whole(dataset):
    return sorted(map(bytes, np.concatenate([dataset.train.x, dataset.test.x])))


@pytest.mark.parametrize("key", ["images", "x", "x_train", "arr_0"])
def test_reads_bytes_under_each_key(write, key):
    images = _bytes()
    found = npz(write(**{key: images}))
    assert found.shape == (6, 5, 3)
    assert found.classes is None
    assert (len(found.train.x), len(found.test.x)) == (15, 5)
    expected = (images.astype(np.float64) / 127.5 - 1.0).astype(np.float32)
    back = np.concatenate([found.train.x, found.test.x])
    order = [np.abs(expected - image[None]).max(axis=(1, 2, 3)).argmin() for image in back]
    assert sorted(order) == list(range(20))
    np.testing.assert_allclose(back, expected[order], atol=2e-7)


@pytest.mark.parametrize("key", ["labels", "y", "y_train"])
def test_reads_labels_under_each_key(write, key):
    label = np.arange(20) % 4
    images = np.repeat((label * 60).astype(np.uint8), 36).reshape(20, 6, 6)
    found = npz(write(images=images, **{key: label[:, None]}), seed=5)
    assert (found.shape, found.classes) == ((6, 6, 1), 4)
    for split in (found.train, found.test):
        np.testing.assert_allclose((split.x[:, 0, 0, 0] + 1.0) * 127.5 / 60.0, split.label, atol=1e-5)


def test_takes_the_files_own_test_split(write):
    train, test = _bytes(8), _bytes(3, seed=1)
    found = npz(write(x_train=train, y_train=np.zeros(8, int), x_test=test, y_test=np.array([0, 1, 6])))
    assert (len(found.train.x), len(found.test.x), found.classes) == (8, 3, 7)
    np.testing.assert_allclose((found.test.x + 1.0) * 127.5, test, atol=1e-4)


def test_reads_compressed_files(tmp_path):
    np.savez_compressed(tmp_path / "data.npz", images=_bytes())
    assert npz(tmp_path / "data.npz").shape == (6, 5, 3)


def test_floats_need_a_range_where_it_is_in_doubt(write):
    unit = np.random.default_rng(0).uniform(0, 1, (9, 4, 4)).astype(np.float32)
    path = write(images=unit)
    with pytest.raises(DataError, match="float_range"):
        npz(path)
    with pytest.raises(DataError, match="to `pplemd fid` --range 0,1"):
        npz_images(path)
    np.testing.assert_allclose(npz_images(path, float_range=(0.0, 1.0))[..., 0], unit * 2 - 1, atol=1e-6)
    declared = npz(path, float_range=(0.0, 1.0))
    signed = npz(write(images=unit * 2 - 1))
    np.testing.assert_allclose(declared.train.x, signed.train.x, atol=1e-6)
    with pytest.raises(DataError, match=r"expected \[-1, 1\]"):
        npz(write(images=unit * 3 - 1))
    with pytest.raises(DataError, match="low < high"):
        npz(path, float_range=(1.0, 1.0))


BAD_CONTENT = {
    "no images": ({"pixels": _bytes()}, "pixels"),
    "vectors": ({"images": np.zeros((5, 4), np.uint8)}, r"\(n, h, w\)"),
    "channels first": ({"images": np.zeros((5, 3, 16, 16), np.uint8)}, "channels first"),
    "integers": ({"images": np.zeros((5, 4, 4), np.int32)}, "uint8 or floats"),
    "empty": ({"images": np.zeros((0, 4, 4), np.uint8)}, "in all|at least one"),
    "nan": ({"images": np.full((5, 4, 4), np.nan)}, "NaN"),
    "label count": ({"images": _bytes(), "labels": np.arange(19)}, r"expected \(20,\)"),
    "float labels": ({"images": _bytes(), "labels": np.zeros(20)}, "class indices"),
    "one-hot labels": ({"images": _bytes(), "labels": np.zeros((20, 3), int)}, "class indices"),
    "negative labels": ({"images": _bytes(), "labels": np.arange(20) - 1}, "from 0"),
    "half-labelled": ({"x_train": _bytes(), "y_train": np.zeros(20, int), "x_test": _bytes()}, "all three or none"),
}


@pytest.mark.parametrize(("content", "message"), BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_refuses_content(write, content, message):
    with pytest.raises(DataError, match=message):
        npz(write(**content))


class _Detonator:
    fired = False

    def __reduce__(self):
        return (setattr, (_Detonator, "fired", True))


def test_pickled_objects_are_refused_and_never_run(tmp_path):
    content = np.empty(1, dtype=object)
    content[0] = _Detonator()
    np.savez(tmp_path / "data.npz", images=content)
    with pytest.raises(DataError, match="np.savez"):
        npz(tmp_path / "data.npz")
    assert not _Detonator.fired


def test_missing_truncated_and_foreign_files(tmp_path, write):
    with pytest.raises(DataError, match="check the path"):
        npz(tmp_path / "nowhere.npz")
    path = write(images=_bytes(200))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a zip", whole.replace(whole[400:440], b"\0" * 40)):
        path.write_bytes(content)
        with pytest.raises(DataError, match="unreadable"):
            npz(path)
    with pytest.raises(DataError, match="unreadable"):
        npz(tmp_path)


def test_a_header_that_claims_more_than_the_file_holds(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**6, 10**3)})
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("images.npy", head.getvalue() + b"\0" * 100)
    with pytest.raises(DataError, match="unreadable"):
        npz(tmp_path / "data.npz")


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "data.npz", images=np.zeros((64, 64, 64), np.uint8))
    monkeypatch.setattr(arrays, "MAX_MEMBER_BYTES", 100_000)
    with pytest.raises(DataError, match="at most"):
        npz(tmp_path / "data.npz")
