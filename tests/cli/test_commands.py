"""Each command on a tiny model: what it prints, what it leaves."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def labelled(new_shell, taught):
    """A finished run of the model with classes."""
    shell = new_shell()
    ended = shell.run("distill", taught, "--out", "run", "--steps", "4", "--set", "teacher.steps=20", "--json")
    assert ended.returncode == 0, ended.stderr
    return shell, json.loads(ended.stdout)


def test_distill_prints_one_json_value(labelled):
    shell, figures = labelled
    assert figures["run"] == "run"
    assert figures["steps"] == 4
    assert set(figures) >= {"floor", "teacher", "student", "count", "seed", "seconds"}
    kept = json.loads((shell.folder / "run" / "evaluation.json").read_text())
    assert kept["student"] == figures["student"]
    config = json.loads((shell.folder / "run" / "config.json").read_text())
    assert config["overrides"] == ["teacher.steps=20", "steps=4"]
    assert config["recipe"]["steps"] == 4
    assert config["teacher"]["taught"]["steps"] == 20
    with Image.open(shell.folder / "run" / "samples.png") as picture:
        assert picture.size[0] > 100


def test_samples_of_a_class(labelled):
    shell, _ = labelled
    for name in ("a.npz", "b.npz"):
        ended = shell.run("sample", "run", "-n", "7", "--label", "2", "--seed", "3", "--out", name, "--json")
        assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["count"] == 7
    with np.load(shell.folder / "a.npz") as a, np.load(shell.folder / "b.npz") as b:
        assert a["x"].shape == (7, 4, 4, 1)
        assert a["x"].dtype == np.float32
        assert list(a["label"]) == [2] * 7
        np.testing.assert_array_equal(a["x"], b["x"])


def test_no_such_class(labelled):
    shell, _ = labelled
    ended = shell.run("sample", "run", "--label", "3")
    assert ended.returncode == 2
    assert "classes 0 to 2" in ended.stderr


def test_evaluate_again_is_the_same(labelled):
    shell, figures = labelled
    ended = shell.run("evaluate", "run", "--json")
    assert ended.returncode == 0, ended.stderr
    again = json.loads(ended.stdout)
    for who in ("floor", "teacher", "student"):
        mine = {name: value for name, value in figures[who].items() if name != "seconds_per_1000"}
        assert mine.items() <= again[who].items()


def test_inspect_of_a_teacher_to_be_taught(shell, taught):
    ended = shell.run("inspect", taught)
    assert ended.returncode == 0, ended.stderr
    plain = " ".join(ended.stdout.split())
    for phrase in ("taught on 40 samples (20 held out)", "4 x 4 x 1", "z, label", "teacher.score", "FLOP a step"):
        assert phrase in plain
    assert max(len(line) for line in ended.stdout.splitlines()) <= 100
    assert not (shell.folder / "cache").exists()  # nothing was taught


def test_gpu_where_there_is_none(shell, ring):
    shell.environment["CUDA_VISIBLE_DEVICES"] = ""
    ended = shell.run("inspect", ring, "--device", "tpu")
    assert ended.returncode == 2
    assert "JAX found no device tpu" in " ".join(ended.stderr.replace("│", "").split())
    assert "Traceback" not in ended.stderr
