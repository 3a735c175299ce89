"""pplemd diagnose on tiny runs: what it prints, what it leaves, what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

SHORT = ["--draws", "25", "--warm-up", "25"]
PICTURES = {"trace", "rank", "autocorrelation", "energy", "ess", "correction"}


@pytest.fixture(scope="module")
def said(new_shell, taught):
    """A run of images with classes, distilled for a few steps: the folder, and what was said."""
    shell = new_shell()
    told = shell.drive(
        {
            "distill": ["distill", taught, "--out", "run", "--steps", "4", "--set", "teacher.training.steps=20"],
            "json": ["diagnose", "run", *SHORT, "--kernel", "own", "--label", "2", "--json", "--sigma", "0.5"],
            "table": ["diagnose", "run", *SHORT, "--sigma", "2", "--sigma", "0.5", "--chains", "3", "--kernel", "hmc"],
            "no class": ["diagnose", "run", "--label", "3"],
            "no run": ["diagnose", "nowhere"],
            "no sigma": ["diagnose", "run", "--sigma", "0"],
            "too short": ["diagnose", "run", "--warm-up", "10"],
        }
    )
    return shell.folder, told


def test_a_table_for_people(said):
    folder, told = said
    code, out, error = told["table"]
    assert code == 0, error
    assert "step 4: 3 chains of 25 draws by HMC, class 0" in out
    assert [line.split()[:2] for line in out.splitlines() if line.startswith((" eps", " z"))] == [
        ["eps", "0.5"], ["eps", "2"], ["z", "0.5"], ["z", "2"],
    ]  # fmt: skip
    assert "expected: at least 300, 100 a chain (Vehtari et al. 2021)" in " ".join(out.split())  # 75 draws cannot be
    assert "run/diagnosis" in out
    assert "Traceback" not in error
    left = {entry.name for entry in (folder / "run" / "diagnosis").iterdir()}
    assert left == {"chains.nc", "diagnosis.json", *(f"{name}.png" for name in PICTURES)}
    for name in PICTURES:
        with Image.open(folder / "run" / "diagnosis" / f"{name}.png") as picture:
            assert min(picture.size) > 200
    kept = json.loads((folder / "run" / "diagnosis" / "diagnosis.json").read_text())
    assert (kept["label"], kept["kernel"]["type"], len(kept["rows"])) == (0, "HMC", 4)


def test_one_json_value(said):
    code, out, error = said[1]["json"]
    assert code == 0, error
    found = json.loads(out)
    assert found["kernel"] == {"type": "Langevin", "step_size": 0.01, "truncation": None}
    assert (found["run"], found["step"], found["label"]) == ("run", 4, 2)
    assert [(row["site"], row["sigma"], row["draws"]) for row in found["rows"]] == [("eps", 0.5, 25), ("z", 0.5, 25)]
    assert all(np.isfinite([row["r_hat"], row["ess_bulk"]]).all() for row in found["rows"])
    assert {row["acceptance"] for row in found["rows"]} == {1.0}  # Langevin accepts everything
    assert any(finding["about"].startswith("ess") for finding in found["findings"])


MISTAKES = {
    "no class": "classes 0 to 2",
    "no run": "not a run folder",
    "no sigma": "positive, finite noise levels",
    "too short": "20 steps or more",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(said, mistake):
    code, out, error = said[1][mistake]
    assert code == 2, error
    assert out == ""
    assert MISTAKES[mistake] in error
    assert "Traceback" not in error
