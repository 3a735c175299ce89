"""From files to teachers: each format of one network builds the same denoiser; what does not fit is named in a line."""

import json
from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import pytest
from look_alikes import TINY, checkpoint, state_dict_zip, tiny_weights

from pplemd.errors import ImporterError, TeacherError
from pplemd.importers import Checkpoint, build, convention, imported, read_checkpoint, shapes, write_teacher_folder
from pplemd.importers.families import outline
from pplemd.importers.weights import write_safetensors
from pplemd.teachers import Denoiser

ARRAYS = tiny_weights()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One network in every format."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("folder", "both"):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(TINY))
    (folder / "edm.pkl").write_bytes(checkpoint(TINY, ARRAYS))
    np.savez(
        folder / "weights.npz",
        config=json.dumps(TINY),
        x=np.ones(3),
        **{f"sd/{key}": value for key, value in ARRAYS.items()},
    )
    (folder / "both" / "model.bin").write_bytes(state_dict_zip(ARRAYS))
    write_safetensors(folder / "folder" / "model.safetensors", ARRAYS)
    write_teacher_folder(folder / "teacher", read_checkpoint(folder / "edm.pkl"), {})
    return folder


@pytest.fixture(scope="module")
def teacher(files):
    return build(read_checkpoint(files / "edm.pkl"))


@pytest.mark.parametrize(
    "name", ["edm.pkl", "weights.npz", "both/model.bin", "folder", "folder/model.safetensors", "teacher"]
)
def test_every_format_builds_the_same_teacher(files, teacher, name):
    found = read_checkpoint(files / name)
    assert (found.architecture, dict(found.config)) == ("edm", TINY)
    assert eqx.tree_equal(build(found), teacher)


def test_shapes_are_known_without_weights(files, teacher):
    alike = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), teacher)
    assert eqx.tree_equal(shapes(read_checkpoint(files / "edm.pkl")), alike)
    assert eqx.tree_equal(outline("edm", TINY), alike)
    with pytest.raises(ImporterError, match="found the architecture 'gan'; expected one of diffusers, edm"):
        outline("gan", {})
    with pytest.raises(ImporterError, match=r"class_name=\[\]; expected a name"):
        outline("edm", TINY | {"class_name": []})


def test_a_transformer_s_plan_needs_the_shape_of_its_images():
    planned = outline("pixel_transformer", {"shape": (4, 6, 3), "patch": 2, "width": 8, "heads": 2, "classes": 5})
    assert (planned.shape, planned.classes) == ((4, 6, 3), 5)
    with pytest.raises(ImporterError, match="a configuration with `shape`"):
        outline("pixel_transformer", {"patch": 2})


@pytest.mark.slow
def test_digests_tell_files_apart(files):
    digests = {read_checkpoint(files / name).sha256() for name in ("edm.pkl", "weights.npz", "folder", "teacher")}
    assert len(digests) == 4
    assert read_checkpoint(files / "edm.pkl").sha256() in digests


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (lambda a: a | {"model.map_layer0.bias": np.full(32, np.nan, np.float32)}, "not finite: 32 of 32 values"),
        (lambda a: {key: value for key, value in list(a.items())[9:]}, "missing: "),
        (lambda a: {f"other_{key}": value for key, value in a.items()}, "more."),
        (lambda a: a | {"model.map_layer0.bias": np.zeros(2, np.float32)}, "found (2,), expected (32,)"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, change, phrase):
    path = tmp_path / "edm.pkl"
    path.write_bytes(checkpoint(TINY, ARRAYS))
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    write_safetensors(tmp_path / "model.safetensors", change(ARRAYS))
    with pytest.raises(ImporterError) as caught:
        build(read_checkpoint(tmp_path / "model.safetensors"))
    message = str(caught.value)
    assert phrase in message
    assert "model.safetensors" in message
    assert "\n" not in message


@pytest.mark.slow
def test_a_declared_teacher(files, teacher):
    scaled = imported("from its publisher.", lambda t: Denoiser(t.network, 0.25), architecture="edm")
    with pytest.raises(TeacherError, match=r"you bring: from its publisher\. Give its path: --teacher PATH"):
        scaled.shapes()
    there = scaled.at(files / "edm.pkl")
    assert eqx.tree_equal(there.ready(), Denoiser(teacher.network, 0.25))
    assert (there.shapes().shape, there.shapes().sigma_data) == ((4, 4, 1), 0.25)
    other = imported("from its publisher.", architecture="diffusers").at(files / "edm.pkl")
    with pytest.raises(TeacherError, match="of the family edm; this model expects diffusers"):
        other.shapes()
    planned = imported("from its publisher.", architecture="edm", config=TINY)
    assert planned.shapes().classes == 3
    with pytest.raises(TeacherError, match="--teacher PATH"):
        planned.ready()


def test_a_teacher_folder_is_whole_or_not_there(files, tmp_path, monkeypatch):
    found = read_checkpoint(files / "edm.pkl")
    with pytest.raises(ImporterError, match="exists; expected nothing yet"):
        write_teacher_folder(files / "teacher", found, {})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pplemd.importers.reading.write_json", full)
    with pytest.raises(ImporterError, match="cannot be written"):
        write_teacher_folder(tmp_path / "teacher", found, {})
    assert list(tmp_path.iterdir()) == []


CARDS = [
    "{",
    '{"format": 99}',
    '{"format": 1, "architecture": "gan", "config": {}}',
    '{"format": 1, "architecture": [], "config": {}}',
    "[]",
]


@pytest.mark.parametrize("card", CARDS)
def test_a_damaged_teacher_folder(files, tmp_path, card):
    (tmp_path / "teacher.json").write_text(card)
    with pytest.raises(ImporterError, match="lacks teacher.json or weights"):
        read_checkpoint(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes((files / "teacher" / "weights.safetensors").read_bytes())
    with pytest.raises(ImporterError, match="teacher.json"):
        read_checkpoint(tmp_path)


def test_a_network_that_pplemd_does_not_have_is_refused_by_name():
    found = Checkpoint("gan", {}, {}, (Path("unet"),))
    for use in (build, convention, shapes):
        with pytest.raises(ImporterError, match="weights of gan, whose networks pplemd does not have yet"):
            use(found)
