"""pplemd report and watch, as a user would call them: on a run, on what is left of one, on no run."""

import json

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def said(new_shell, ring):
    """What the commands say about a short run, and the shell."""
    shell = new_shell()
    run = ["distill", ring, "--steps", "14", "--set", "training.sample_every=7", "--out", "runs/a"]
    commands = {
        "distill": run,
        "report": ["report", "runs/a"],
        "json": ["report", "runs/a", "runs/a", "--out", "both.html", "--json"],
        "files": ["report", "runs/a", "--files", "--out", "files.html"],
        "watch": ["watch", "runs/a"],
        "once": ["watch", "runs/a", "--once"],
        "state": ["watch", "runs/a", "--json"],
        "no run": ["report", "nowhere"],
        "one is no run": ["report", "runs/a", "nowhere"],
        "nothing to watch": ["watch", "nowhere"],
        "unwritable": ["report", "runs/a", "--files", "--out", "/proc/none/x.html"],
        "a model for two": ["report", "runs/a", "runs/a", "--model", ring],
        "no board": ["distill", ring, "--steps", "3", "--out", "runs/b", "--tensorboard"],
    }
    return shell.drive(commands), shell


def test_a_report_is_one_file(said):
    (code, out, error), shell = said[0]["report"], said[1]
    assert code == 0, error
    assert "runs/a/report.html: 1 run, " in out
    content = (shell.folder / "runs/a/report.html").read_text()
    for phrase in ("What its checkpoint", "could not be drawn"):
        assert phrase not in content
    for phrase in ("E-step, sigma", "From one latent to another", "Tiny.net", "modes".capitalize()):
        assert phrase in content


def test_several_runs_as_json(said):
    (code, out, error), shell = said[0]["json"], said[1]
    assert code == 0, error
    told = json.loads(out)
    assert told["runs"] == ["runs/a", "runs/a"]
    assert told["bytes"] == (shell.folder / "both.html").stat().st_size


def test_files_alone(said):
    (code, _, error), shell = said[0]["files"], said[1]
    assert code == 0, error
    content = (shell.folder / "files.html").read_text()
    assert "Samples" in content
    assert "From one latent to another" not in content


def test_watching_a_run_that_has_ended(said):
    found, _ = said
    code, out, error = found["watch"]
    assert (code, error) == (0, "")
    assert out.startswith("a: finished, 14 of 14")
    assert "Modes found" in found["once"][1]
    state = json.loads(found["state"][1])
    assert (state["state"], state["step"], state["steps"]) == ("finished", 14, 14)
    assert {"run_modes", "pull", "score_lag"} <= set(state["figures"])
    assert state["evaluation"]["student"]["modes"] >= 0
    assert (state["alarms"], state["notes"]) == ({}, [])


MISTAKES = {
    "no run": "not a run folder",
    "one is no run": "nowhere is not a run folder",
    "nothing to watch": "not a run folder",
    "unwritable": "cannot be written",
    "a model for two": "found several runs",
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes(said, kind):
    code, out, error = said[0][kind]
    assert (code, out) == (2, "")
    assert MISTAKES[kind] in error
    assert "Traceback" not in error


def test_a_board_needs_its_extra(said):
    """Either it is installed, and its files are there, or its absence is told before anything is trained."""
    (code, _, error), shell = said[0]["no board"], said[1]
    if code == 0:
        assert list((shell.folder / "runs/b/tensorboard").iterdir())
    else:
        assert code == 2
        assert "pip install 'pplemd[tensorboard]'" in error
        assert not (shell.folder / "runs/b").exists()
