"""Each command on a tiny model: what it prints, what it leaves."""

import json

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow


def lenet() -> dict[str, np.ndarray]:
    """Weights of a classifier of four classes, with LeNet's names."""
    shapes = {"convnet.c1": (2, 1, 5, 5), "convnet.c3": (3, 2, 5, 5), "convnet.c5": (7, 3, 5, 5), "fc.f6": (5, 7)}
    rng, arrays = np.random.default_rng(0), {}
    for name, shape in {**shapes, "fc.f7": (4, 5)}.items():
        arrays[f"{name}.weight"] = rng.standard_normal(shape).astype(np.float32)
        arrays[f"{name}.bias"] = rng.standard_normal(shape[0]).astype(np.float32)
    return arrays


SAMPLE = ["sample", "run", "-n", "7", "--label", "2", "--seed", "3", "--json", "--out"]


@pytest.fixture(scope="module")
def labelled(new_shell, taught):
    """A model with classes, through every command: the folder, and what each command said."""
    shell = new_shell()
    images = np.random.default_rng(1).integers(0, 256, (80, 4, 4, 1)).astype(np.uint8)
    np.savez(shell.folder / "data.npz", images=images, labels=np.arange(80, dtype=np.int32) % 3)
    np.savez(shell.folder / "lenet.npz", **lenet())
    said = shell.drive(
        {
            "inspect": ["inspect", taught],
            "cache": ["inspect", taught, "--json"],
            "distill": [
                "distill",
                taught,
                "--out",
                "run",
                "--steps",
                "4",
                "--set",
                "teacher.training.steps=20",
                "--json",
            ],
            "a": [*SAMPLE, "a.npz"],
            "b": [*SAMPLE, "b.npz"],
            "png": ["sample", "run"],
            "no class": ["sample", "run", "--label", "3"],
            "evaluate": ["evaluate", "run", "--json"],
            "beside": ["sample", "run", "--side-by-side", "--out", "beside.png", "--json"],
            "beside arrays": ["sample", "run", "--side-by-side", "--format", "npz"],
            "beside a class": ["sample", "run", "--side-by-side", "--label", "1"],
            "corrected class": ["sample", "run", "--correct", "--label", "1"],
            "features alone": ["evaluate", "run", "--features", "lenet.npz"],
            "no features": ["evaluate", "run", "--features", "data.npz", "--data", "data.npz"],
            "features": ["evaluate", "run", "--features", "lenet.npz", "--data", "data.npz", "--json"],
        }
    )
    wrong = {name for name, (code, _, _) in said.items() if code}
    alone = {"beside arrays", "beside a class", "corrected class"}
    assert wrong == {"no class", "features alone", "no features", *alone}, said
    assert all(said[name][0] == 2 for name in wrong), said
    return shell.folder, said


def test_distill_prints_one_json_value(labelled):
    folder, said = labelled
    figures = json.loads(said["distill"][1])
    assert figures["run"] == "run"
    assert figures["steps"] == 4
    assert set(figures) >= {"floor", "teacher", "student", "count", "seed", "seconds"}
    assert figures["alarms"] == {}
    assert figures["falls_short"] == []  # of 40 samples no distance is beyond noise
    kept = json.loads((folder / "run" / "evaluation.json").read_text())
    assert kept["floor"] == figures["floor"]
    assert set(kept["student"]) == set(figures["student"])
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["overrides"] == ["teacher.training.steps=20", "training.steps=4"]
    assert config["training"]["steps"] == 4
    assert config["teacher"]["taught"]["training"]["steps"] == 20
    with Image.open(folder / "run" / "samples.png") as picture:
        assert picture.size[0] > 100


def test_samples_of_a_class(labelled):
    folder, said = labelled
    assert json.loads(said["a"][1])["count"] == 7
    with np.load(folder / "a.npz") as a, np.load(folder / "b.npz") as b:
        assert a["x"].shape == (7, 4, 4, 1)
        assert a["x"].dtype == np.float32
        assert list(a["label"]) == [2] * 7
        np.testing.assert_array_equal(a["x"], b["x"])
    assert "classes 0 to 2" in said["no class"][2]
    assert "run/sample.png: 100 samples of step 4" in said["png"][1]
    assert (folder / "run" / "sample.png").is_file()


def test_evaluate_again_is_the_same(labelled):
    figures, again = (json.loads(labelled[1][name][1]) for name in ("distill", "evaluate"))
    for who in ("floor", "teacher", "student"):
        mine = {name: value for name, value in figures[who].items() if name != "seconds_per_1000"}
        assert mine.items() <= again[who].items()


def test_evaluate_by_features_and_data_that_are_given(labelled):
    figures = json.loads(labelled[1]["features"][1])
    assert all("falls short" in told for told in figures["falls_short"])
    for who in ("floor", "teacher", "student"):
        assert set(figures[who]) >= {"frechet", "precision", "recall", "class_kl", "class_accuracy", "frechet_train"}
        assert 0 <= figures[who]["class_accuracy"] <= 1
    assert json.loads((labelled[0] / "run" / "evaluation-lenet-data.json").read_text())["floor"] == figures["floor"]
    assert "Give some by --data FILE.npz" in labelled[1]["features alone"][2]
    assert "data.npz: found arrays that no classifier known here has" in labelled[1]["no features"][2]


def test_options_without_effect_are_refused(labelled):
    folder, said = labelled
    assert "found --side-by-side with sample.npz" in said["beside arrays"][2]
    assert "found --side-by-side with --count, --label" in said["beside a class"][2]
    assert "found --correct with --label" in said["corrected class"][2]
    assert not (folder / "run" / "sample.npz").exists()


def test_a_picture_of_teacher_and_generator(labelled):
    folder, said = labelled
    assert json.loads(said["beside"][1]) == {"out": "beside.png", "step": 4}
    with Image.open(folder / "beside.png") as picture:
        seen = np.asarray(picture)
    side, margin = 64, 4  # images of 4 x 4, enlarged 16 times
    assert seen.shape == (3 * (side + margin) + margin, 17 * (side + margin) + margin)
    middle = 8 * (side + margin)
    assert (seen[:, middle : middle + side] == 128).all()
    assert not (seen[:, :middle] == 128).all()


def test_inspect_of_a_teacher_to_be_taught(labelled):
    out = labelled[1]["inspect"][1]
    plain = " ".join(out.split())
    for phrase in (
        "taught on 40 samples (20 held out)",
        "4 x 4 x 1",
        "z, condition",
        "teacher.algorithm",
        "FLOP a step",
    ):
        assert phrase in plain
    assert max(len(line) for line in out.splitlines()) <= 100
    assert json.loads(labelled[1]["cache"][1])["teacher"]["classes"] == 3


def test_gpu_where_there_is_none(shell, ring):
    shell.environment["CUDA_VISIBLE_DEVICES"] = ""
    ended = shell.run("inspect", ring, "--device", "tpu")
    assert ended.returncode == 2
    assert "JAX found no device tpu" in " ".join(ended.stderr.replace("│", "").split())
    assert "Traceback" not in ended.stderr
