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


@pytest.mark.parametrize("key", ["images", "x", "x_train", "data", "samples", "arr_0"])
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


@pytest.mark.parametrize(
    ("names", "key"),
    [
        *(("images", key) for key in ("labels", "label", "y", "y_train", "classes", "class", "targets", "target")),
        ("arr_0", "arr_1"), ("x", "label"), ("X", "Y"), ("train_images", "train_labels"), ("Images", "Labels"),
    ],
)  # fmt: skip
def test_reads_labels_under_each_key(write, caplog, names, key):
    label = np.arange(20) % 4
    images = np.repeat((label * 60).astype(np.uint8), 36).reshape(20, 6, 6)
    found = npz(write(**{names: images, key: label[:, None]}), seed=5)
    assert not caplog.records
    assert (found.shape, found.classes) == ((6, 6, 1), 4)
    for split in (found.train, found.test):
        np.testing.assert_allclose((split.x[:, 0, 0, 0] + 1.0) * 127.5 / 60.0, split.label, atol=1e-5)


def test_takes_the_files_own_test_split(write):
    train, test = _bytes(8), _bytes(3, seed=1)
    found = npz(write(x_train=train, y_train=np.zeros(8, int), x_test=test, y_test=np.array([0, 1, 6])))
    assert (len(found.train.x), len(found.test.x), found.classes) == (8, 3, 7)
    np.testing.assert_allclose((found.test.x + 1.0) * 127.5, test, atol=1e-4)


UNUSED = {
    "further labels": ({"labels": np.arange(20) % 2, "fine_labels": np.arange(20) % 2}, "labels", "fine_labels (20,)"),
    "names of classes": ({"label": np.arange(20) % 2, "classes": np.array(["a", "b"])}, "label", "classes (2,)"),
    "a validation split": (
        {"val_images": _bytes(3), "y_test": np.zeros(3, int)},
        None,
        "val_images (3, 6, 5, 3), y_test",
    ),
    "no labels": ({"class": np.zeros(19, int), "target": np.zeros(20)}, None, "class (19,), target (20,)"),
    "other images": ({"arr_0": _bytes()}, None, "arr_0 (20, 6, 5, 3)"),
}


@pytest.mark.parametrize(("content", "labels", "told"), UNUSED.values(), ids=UNUSED)
def test_names_arrays_that_are_not_used(write, caplog, content, labels, told):
    found = npz(write(images=_bytes(), **content))
    assert found.classes == (None if labels is None else 2)
    assert f"not used: {told}" in caplog.text


def test_arr_1_may_be_further_images(write, caplog):
    assert npz(write(arr_0=_bytes(), arr_1=_bytes(20, seed=1))).classes is None
    assert "not used: arr_1 (20, 6, 5, 3)" in caplog.text


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 6, 1), (9, 8, 4), (3, 8, 9)])
def test_one_image_is_not_taken_for_several(write, shape):
    with pytest.raises(DataError, match=f"may be one image of .* with {min(shape)} channels, or {shape[0]} grey"):
        npz(write(images=np.zeros(shape, np.uint8)))


@pytest.mark.parametrize(("dtype", "white"), [(np.uint16, 65535), (np.int32, 255), (np.int64, 1023), (np.bool_, 1)])
def test_whole_numbers_need_a_range(write, dtype, white):
    images = np.linspace(0, white, 9 * 30).reshape(9, 6, 5).astype(dtype)
    path = write(images=images)
    with pytest.raises(DataError, match="say what black and white are.*wrap around"):
        npz(path)
    found = npz_images(path, float_range=(0.0, float(white)))
    np.testing.assert_allclose(found[..., 0], images / white * 2.0 - 1.0, atol=1e-6)


def _with(value, at):
    x = np.linspace(-1, 1, 9 * 30).reshape(9, 6, 5).astype(np.float32)
    x[at] = value
    return x


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"images": _with(np.nan, (7, 2, 3))},
            r"data.npz, images: .*in 1 of 9 samples, the first sample 7 \(from 0\) at",
        ),
        ({"x_train": _with(0, 0), "x_test": _with(np.inf, (4, 0, 0))}, r"data.npz, x_test: .*the first sample 4"),
        ({"images": _with(3.0, (5, 0, 0))}, r"data.npz, images: .*the farthest in sample 5"),
        ({"images": _with(0, 0), "label": np.array([0, 1, 0, -1, 1, 0, 1, 0, 1])}, r"data.npz, label: .*of sample 3"),
        ({"images": _with(0, 0), "label": np.array([0, 0, 0, 0, 1, 0, 0, 0, 0])}, r"data.npz: .*class 1, sample 4"),
    ],
)
def test_names_file_array_and_sample(write, content, message):
    with pytest.raises(DataError, match=message):
        npz(write(**content))


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
    "vectors": ({"images": np.zeros((5, 4), np.uint8)}, r"\(n, h, w\).*save x\[None\]"),
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
