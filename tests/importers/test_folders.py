"""Folders: today's diffusers layout, that of 2022, and what may not be read through them."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from look_alikes import state_dict_zip, weights

from pplemd.errors import ImporterError
from pplemd.importers import read_checkpoint
from pplemd.importers.pipelines import MAX_BYTES
from pplemd.importers.weights import write_safetensors

UNET = {"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 3}
SCHEDULE = {"_class_name": "DDPMScheduler", "beta_start": 0.0001}


def pipeline(folder):
    (folder / "unet").mkdir()
    (folder / "scheduler").mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    (folder / "unet" / "config.json").write_text(json.dumps(UNET))
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULE))
    write_safetensors(folder / "unet" / "diffusion_pytorch_model.safetensors", weights())
    return folder


def same(found):
    assert found.architecture == "diffusers"
    assert found.config == {**UNET, "scheduler": SCHEDULE}
    assert set(found.arrays) == set(weights())
    for name, array in weights().items():
        np.testing.assert_array_equal(found.arrays[name], array)


def test_a_pipeline(tmp_path):
    same(read_checkpoint(pipeline(tmp_path)))


@pytest.mark.parametrize("path", [".", "diffusion_pytorch_model.safetensors"])
def test_a_pipelines_network_from_inside(tmp_path, monkeypatch, path):
    """Its scheduler lies beside its folder, whose name a relative path does not hold."""
    monkeypatch.chdir(pipeline(tmp_path) / "unet")
    same(read_checkpoint(Path(path)))


def test_the_flat_layout_of_2022(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(UNET))
    (tmp_path / "scheduler_config.json").write_text(json.dumps(SCHEDULE))
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(state_dict_zip(weights()))
    same(read_checkpoint(tmp_path))


def sharded(folder):
    """The pipeline with its weights in two files, as `save_pretrained(max_shard_size=...)` leaves them."""
    pipeline(folder)
    (folder / "unet" / NAME).unlink()
    names = sorted(weights())
    files = dict.fromkeys(names[:1], PARTS[0]) | dict.fromkeys(names[1:], PARTS[1])
    for part in PARTS:
        write_safetensors(folder / "unet" / part, {n: a for n, a in weights().items() if files[n] == part})
    total = sum(array.nbytes for array in weights().values())
    index = {"metadata": {"total_size": total}, "weight_map": files}
    write_index(folder, index)
    return index


def write_index(folder, index):
    (folder / "unet" / f"{NAME}.index.json").write_text(json.dumps(index))


NAME = "diffusion_pytorch_model.safetensors"
PARTS = [f"diffusion_pytorch_model-{number:05}-of-00002.safetensors" for number in (1, 2)]


def test_weights_in_several_files(tmp_path):
    sharded(tmp_path)
    found = read_checkpoint(tmp_path)
    same(found)
    assert {file.name for file in found.files} >= {*PARTS, f"{NAME}.index.json"}
    assert list(found.arrays) == sorted(weights())


def _first(index, file):
    return {**index, "weight_map": {**index["weight_map"], min(index["weight_map"]): file}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: _first(index, "../../elsewhere.safetensors"), "expected 1 to 1024 .safetensors files beside"),
        (lambda index: _first(index, "diffusion_pytorch_model.bin"), "expected 1 to 1024 .safetensors files beside"),
        (lambda index: _first(index, "third.safetensors"), "speaks of third.safetensors, which is not there"),
        (lambda index: _first(index, PARTS[1]), "which does not hold it"),
        (lambda index: {"weight_map": {n: f for n, f in index["weight_map"].items() if n != max(weights())}}, "hold"),
        (lambda _: {"weight_map": {}}, "speaks of 0 files"),
        (lambda _: {"weight_map": {"a": 3}}, 'no "weight_map"'),
        (lambda _: {}, 'no "weight_map"'),
    ],
)
def test_an_index_that_is_wrong(tmp_path, change, message):
    write_index(tmp_path, change(sharded(tmp_path)))
    write_safetensors(tmp_path.parent / "elsewhere.safetensors", weights())
    with pytest.raises(ImporterError, match=message):
        read_checkpoint(tmp_path)


def test_one_of_several_files(tmp_path):
    sharded(tmp_path)
    with pytest.raises(ImporterError, match="is one of several files of weights; expected their folder"):
        read_checkpoint(tmp_path / "unet" / PARTS[0])


def test_links_of_a_cache(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    pipeline(snapshot)
    for path in [*snapshot.rglob("*.json"), *snapshot.rglob("*.safetensors")]:
        blob = blobs / path.name
        os.replace(path, blob)
        path.symlink_to(blob)
    same(read_checkpoint(snapshot))


def _link(folder):
    (folder / "unet" / "config.json").rename(folder.parent / "elsewhere.json")
    (folder / "unet" / "config.json").symlink_to("../../elsewhere.json")


def _pipe(folder):
    (folder / "unet" / "config.json").unlink()
    os.mkfifo(folder / "unet" / "config.json")


def _weights_elsewhere(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")


def written(content):
    return lambda folder: (folder / "unet" / "config.json").write_text(content)


STRANGE = {
    "a link to elsewhere": (_link, "is a link to"),
    "weights elsewhere": (_weights_elsewhere, "is a link to"),
    "a pipe": (_pipe, "no regular file"),
    "no configuration": (lambda folder: (folder / "unet" / "config.json").unlink(), "holds no config.json"),
    "no weights": (
        lambda folder: (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink(),
        "holds no weights",
    ),
    "another class": (written('{"_class_name": "UNet3DConditionModel"}'), "UNet3DConditionModel"),
    "a JSON bomb": (written("[" * 100_000), "nested too deeply"),
    "a nest in JSON": (written('{"a": ' + "[" * 100 + "]" * 100 + "}"), "nested too deeply"),
    "a large JSON": (written('{"a": "' + "x" * MAX_BYTES + '"}'), "expected a JSON object of at most"),
    "a list": (written("[1]"), "is a JSON list"),
    "NaN": (written('{"a": NaN}'), "NaN is no value"),
    "a huge number": (written('{"a": ' + "9" * 5000 + "}"), "no sound JSON"),
    "not text": (lambda folder: (folder / "unet" / "config.json").write_bytes(b"\xff\xfe"), "no sound JSON"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_folder(tmp_path, kind):
    (tmp_path / "model").mkdir()
    folder = pipeline(tmp_path / "model")
    change, phrase = STRANGE[kind]
    change(folder)
    with pytest.raises(ImporterError) as caught:
        read_checkpoint(folder)
    message = str(caught.value)
    assert phrase in message
    assert "\n" not in message
    assert str(folder) in message


def test_weights_without_a_configuration(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", weights())
    with pytest.raises(ImporterError, match=r"holds weights alone; expected a model\.json or a config\.json beside it"):
        read_checkpoint(tmp_path / "model.safetensors")
    with pytest.raises(ImporterError, match="does not exist"):
        read_checkpoint(tmp_path / "nothing.pkl")
