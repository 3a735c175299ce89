"""The folder of a new run."""

import json
from pathlib import Path

import pytest

import pplemd as em
from pplemd.comparison import Budget, Comparison, compare, contenders
from pplemd.errors import CheckpointError
from pplemd.runs.session import RunOptions, opened

RING = Path(__file__).parent.parent / "cli" / "tiny_ring.py"


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_of_others_is_refused_and_left_as_it_is(tmp_path, resume):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(CheckpointError, match=r"holds thesis\.tex, and no run"):
        opened(RING, tmp_path, RunOptions(None), resume, em.Silent())
    assert [one.name for one in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_model_s_folder_of_another_library_is_no_run(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(CheckpointError, match=r"holds config\.json, and no run"):
        opened(RING, tmp_path, RunOptions(None), False, em.Silent())


def test_a_run_is_told_as_before(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model": {}, "overrides": []}))
    with pytest.raises(CheckpointError, match="holds a run already. Go on with it by --resume"):
        opened(RING, tmp_path, RunOptions(None), False, em.Silent())


@pytest.mark.parametrize("resume", [False, True])
def test_an_empty_folder_is_taken(tmp_path, resume):
    (tmp_path / ".gitkeep").touch()
    assert opened(RING, tmp_path, RunOptions(None), resume, em.Silent())[1].path == tmp_path


@pytest.mark.parametrize("name", ["thesis.tex", "config.json"])
def test_a_comparison_wants_a_folder_of_its_own(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(CheckpointError, match=f"holds {name}, and no comparison"):
        compare(Comparison(RING, None, contenders("emd"), Budget.read("steps=2"), 1), tmp_path, em.Silent())
