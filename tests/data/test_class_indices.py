"""Classes of image files: EDM's dataset.json, sub-folders, and what is neither."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from pplemd.data import images
from pplemd.errors import DataError


def _png(label):
    """An image that tells its label."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((3, 4), 20 * label, np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def _card(labels):
    return {"dataset.json": json.dumps({"labels": labels}).encode()}


LABELS = {f"{i // 4:05d}/img{i:08d}.png": i % 3 for i in range(12)}  # as EDM's dataset_tool.py numbers images
FILES = {name: _png(label) for name, label in LABELS.items()}
PAIRS = [[name, label] for name, label in LABELS.items()]


@pytest.fixture(params=["folder", "zip"])
def write(request, tmp_path):
    def save(content):
        if request.param == "zip":
            with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
                for name, data in content.items():
                    archive.writestr(name, data)
            return tmp_path / "set.zip"
        for name, data in content.items():
            path = tmp_path / "set" / name.replace("\\", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return tmp_path / "set"

    return save


def _renamed(change):
    return _card([[change(name), label] for name, label in PAIRS])


READ = {
    "edm": FILES | _card(PAIRS),
    "beneath a folder": {f"top/{name}": data for name, data in (FILES | _card(PAIRS)).items()},
    "windows": FILES | _renamed(lambda name: name.replace("/", "\\")),
    "members of windows": {name.replace("/", "\\"): data for name, data in FILES.items()} | _card(PAIRS),
    "no folders": FILES | _renamed(lambda name: name.split("/")[1]),
    "a folder more": FILES | _renamed(lambda name: f"./cifar/{name}"),
    "an object, whole floats": FILES | _card({name: float(label) for name, label in PAIRS}),
}


@pytest.mark.parametrize("content", READ.values(), ids=READ)
def test_labels_are_those_of_dataset_json(write, content):
    found = images(write(content))
    assert found.classes == 3
    assert len(found.train.x) + len(found.test.x) == 12
    for split in (found.train, found.test):
        np.testing.assert_allclose((split.x[:, 0, 0, 0] + 1.0) * 127.5 / 20.0, split.label, atol=1e-5)


@pytest.mark.parametrize("labels", [None, [[name, None] for name in LABELS]])
def test_null_is_no_labels(write, labels):
    found = images(write(FILES | _card(labels)))
    assert (found.classes, found.train.label) == (None, None)


BAD_CARDS = {
    "no label of one": (_card(PAIRS[1:]), "no label of 1 of 12 images: 00000/img00000000.png"),
    "an image more": ({"preview.png": _png(0)} | _card(PAIRS), "no label of 1 of 13 images: preview.png"),
    "an image less": (_card([*PAIRS, ["00009/gone.png", 0]]), "labels of 1 images that are not there.*gone.png"),
    "no labels": ({"dataset.json": b'{"name": "pets"}'}, "found name, expected labels"),
    "vectors": (_card([[name, [0.1, 0.2]] for name in LABELS]), r"label \[0.1, 0.2\] of 00000/img00000000.png"),
    "fractions": (_card([[name, 0.5] for name in LABELS]), "label 0.5 of 00000/img00000000.png"),
    "some null": (_card([[name, label or None] for name, label in PAIRS]), "null as the label of 00000/img00000000"),
    "two labels": (_card([*PAIRS, [PAIRS[1][0], 2]]), "labels 1 and 2 of 00000/img00000001.png"),
    "one for two": ({"a/1.png": _png(0), "b/1.png": _png(0)} | _card([*PAIRS, ["1.png", 0]]), "labels for a/1"),
    "cut": ({"dataset.json": _card(PAIRS)["dataset.json"][:50]}, "dataset.json: found no JSON .*line 1"),
    "two of them": ({f"part/{name}": data for name, data in _card(PAIRS).items()} | _card(PAIRS), "expected one"),
    "a lone class": (_card([[name, 3 * (i == 0)] for i, name in enumerate(LABELS)]), "class 3, 00000/img00000000.png"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BAD_CARDS.values(), ids=BAD_CARDS)
def test_refuses_a_dataset_json_that_does_not_fit(write, content, message):
    with pytest.raises(DataError, match=f"set.*{message}"):
        images(write(FILES | content))


def test_numbered_folders_are_refused_unless_it_is_said_what_they_are(write):
    path = write(FILES)
    with pytest.raises(DataError, match="numbered sub-folders 00000, 00001, 00002 and no dataset.json.*by_folder=True"):
        images(path)
    assert images(path, by_folder=False).classes is None
    assert images(path, by_folder=True).classes == 3


def _in(*folders):
    return {f"{folder}/{i}.png": _png(label) for label, folder in enumerate(folders) for i in range(3)}


SPLITS = [
    ("Train", "VALID"), ("training", "validation"), ("train_set", "Test-Set"), ("trainset", "devset"),
    ("TRAIN", "eval"), ("Development", "Evaluation"), ("train2017", "val2017"), ("1_train", "2_tst"), ("train", "val"),
    ("trainA", "trainB", "testA", "testB"), ("ILSVRC2012_img_train", "ILSVRC2012_img_val"), ("trn", "hold_out"),
    ("train", "extra"), ("t_train", "t_test"),
    ("cat/train", "cat/test", "dog/train", "dog/test"), ("x/train/cat", "x/val/cat"),
]  # fmt: skip


@pytest.mark.parametrize("folders", SPLITS)
def test_splits_are_no_classes(tmp_path, folders):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name, data in _in(*folders).items():
            archive.writestr(name, data)
    with pytest.raises(DataError, match="which are splits of the data .* folder alone, in a zip by inside="):
        images(tmp_path / "set.zip")
    assert images(tmp_path / "set.zip", by_folder=False).classes is None


CLASSES = [
    ("cat", "dog"), ("0", "1"), ("train", "bus"), ("test_tube", "bus"), ("valley", "train", "device"), ("00", "01"),
    ("train_station", "train_track"), ("art_gallery", "train_interior", "bus"), ("cat/a", "dog/b"),
]  # fmt: skip


@pytest.mark.parametrize("folders", CLASSES)
def test_other_folders_are_classes(tmp_path, folders):
    for name, data in _in(*folders).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert images(tmp_path).classes == len(folders)


def test_one_split_alone(write):
    path = write(_in("train/a", "train/b", "val/a", "val/b"))
    assert images(path, inside="train").classes == 2
    assert images(path, by_folder=True).classes == 2  # train and val, since it is said so
    with pytest.raises(DataError, match=r"no folder 'trian', expected one of the folders inside \(train, val\)"):
        images(path, inside="trian")
