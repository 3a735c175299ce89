"""What is drawn of a run for a report, and what is said where it cannot be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import pplemd as em
from pplemd.runs.reporting import report_data, write_report
from pplemd.storage.folder import RunFolder
from pplemd.tasks.report_pictures import PATHS

pytestmark = pytest.mark.slow

MODELS = Path(__file__).parents[1] / "cli"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of the tests' models, of a few steps."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PPLEMD_CACHE", str(folder / "cache"))
        short = ("training.steps=12", "training.sample_every=6", "training.log_every=3")
        em.distil(MODELS / "tiny_ring.py", folder / "ring", overrides=short, reporter=em.Silent())
        em.distil(MODELS / "tiny_taught.py", folder / "taught", reporter=em.Silent())
        yield folder


def drawn(path):
    return report_data(RunFolder(path), None, em.Silent())


def test_points(runs):
    shown = drawn(runs / "ring")
    assert shown.notes == ()
    assert (shown.step, shown.shape) == (12, (2,))
    assert shown.samples.shape == shown.reference.shape == (1500, 2)
    assert len(shown.corrections) == 4
    assert all(before.shape == after.shape == (200, 2) for before, after in shown.corrections.values())
    assert shown.plan["networks"]["Tiny.net"] > 0
    assert np.linalg.norm(shown.reference, axis=1).mean() == pytest.approx(2.0, abs=0.1)  # the ring's radius


def test_images_of_classes(runs):
    shown = drawn(runs / "taught")
    assert shown.notes == ()
    assert shown.classes == 3
    assert shown.samples.shape == shown.reference.shape == (100, 4, 4, 1)
    assert shown.between.shape == (PATHS, 10, 4, 4, 1)


def test_a_teacher_that_is_not_at_hand_is_not_trained(runs, monkeypatch, tmp_path):
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path))
    shown = drawn(runs / "taught")
    assert shown.samples is not None
    assert shown.reference is None
    assert "teacher is not at hand" in shown.notes[0]
    assert not list(tmp_path.iterdir())


def test_what_is_gone_is_noted(runs, tmp_path):
    shutil.copytree(runs / "ring", tmp_path / "ring")
    config = json.loads((tmp_path / "ring" / "config.json").read_text())
    config["model"]["path"] = str(tmp_path / "gone.py")
    (tmp_path / "ring" / "config.json").write_text(json.dumps(config))
    shown = drawn(tmp_path / "ring")
    assert shown.samples is None
    assert "gone.py, which is gone" in shown.notes[0]
    again = report_data(RunFolder(tmp_path / "ring"), MODELS / "tiny_ring.py", em.Silent())
    assert again.samples is not None
    shutil.rmtree(tmp_path / "ring" / "checkpoints")
    assert (
        "no checkpoint yet" in report_data(RunFolder(tmp_path / "ring"), MODELS / "tiny_ring.py", em.Silent()).notes[0]
    )


def test_alarms_are_told_in_words(runs, tmp_path):
    shutil.copytree(runs / "ring", tmp_path / "ring")
    lines = [json.loads(line) for line in (tmp_path / "ring" / "metrics.jsonl").read_text().splitlines()]
    lines[-1] |= {"noise_norm": 1e6, "alarm": ["noise_runs_away"]}
    (tmp_path / "ring" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (alarm,) = drawn(tmp_path / "ring").alarms
    assert (alarm.name, alarm.step) == ("noise_runs_away", 12)
    assert "1e+06" in alarm.found


def test_one_call_writes_the_page(runs, tmp_path):
    target = write_report([runs / "ring", runs / "taught"], tmp_path / "x.html", reporter=em.Silent())
    content = target.read_text()
    assert target == tmp_path / "x.html"
    assert "2 runs" in content
    assert "could not be drawn" not in content
    own = write_report(runs / "ring", draw=False, reporter=em.Silent())
    assert own == runs / "ring" / "report.html"
    assert "From one latent to another" not in own.read_text()
