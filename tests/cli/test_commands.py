"""Each command on a tiny model: what it prints, what it leaves."""

import json

import numpy as np
import pytest
from PIL import Image

SAMPLE = ["sample", "run", "-n", "7", "--label", "2", "--seed", "3", "--json", "--out"]


@pytest.fixture(scope="module")
def labelled(new_shell, taught):
    """A model with classes, through every command: the folder, and what each command said."""
    shell = new_shell()
    said = shell.drive(
        {
            "inspect": ["inspect", taught],
            "cache": ["inspect", taught, "--json"],
            "distill": ["distill", taught, "--out", "run", "--steps", "4", "--set", "teacher.steps=20", "--json"],
            "a": [*SAMPLE, "a.npz"],
            "b": [*SAMPLE, "b.npz"],
            "png": ["sample", "run"],
            "no class": ["sample", "run", "--label", "3"],
            "evaluate": ["evaluate", "run", "--json"],
        }
    )
    assert [code for code, _, _ in said.values()] == [0, 0, 0, 0, 0, 0, 2, 0], said
    return shell.folder, said


def test_distill_prints_one_json_value(labelled):
    folder, said = labelled
    figures = json.loads(said["distill"][1])
    assert figures["run"] == "run"
    assert figures["steps"] == 4
    assert set(figures) >= {"floor", "teacher", "student", "count", "seed", "seconds"}
    kept = json.loads((folder / "run" / "evaluation.json").read_text())
    assert kept["floor"] == figures["floor"]
    assert set(kept["student"]) == set(figures["student"])
    config = json.loads((folder / "run" / "config.json").read_text())
    assert config["overrides"] == ["teacher.steps=20", "steps=4"]
    assert config["recipe"]["steps"] == 4
    assert config["teacher"]["taught"]["steps"] == 20
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


def test_inspect_of_a_teacher_to_be_taught(labelled):
    out = labelled[1]["inspect"][1]
    plain = " ".join(out.split())
    for phrase in ("taught on 40 samples (20 held out)", "4 x 4 x 1", "z, label", "teacher.score", "FLOP a step"):
        assert phrase in plain
    assert max(len(line) for line in out.splitlines()) <= 100
    assert json.loads(labelled[1]["cache"][1])["teacher"]["classes"] == 3


def test_gpu_where_there_is_none(shell, ring):
    shell.environment["CUDA_VISIBLE_DEVICES"] = ""
    ended = shell.run("inspect", ring, "--device", "tpu")
    assert ended.returncode == 2
    assert "JAX found no device tpu" in " ".join(ended.stderr.replace("│", "").split())
    assert "Traceback" not in ended.stderr
