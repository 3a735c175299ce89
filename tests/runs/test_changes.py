"""A run whose model file has changed since: what changed is said, how the old file is used, nothing is removed."""

import shutil
import sys
from pathlib import Path

import pytest

import pplemd as em
from pplemd.errors import CheckpointError, DataError, PplemdError
from pplemd.runs.loading import load
from pplemd.storage.checkpoints import digest_of_file
from pplemd.storage.folder import RunFolder
from pplemd.tasks.distillation import Plan

pytestmark = pytest.mark.slow

TINY = Path(__file__).parents[1] / "cli" / "tiny_ring.py"
SIBLING = "WIDTH = 8\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps that was not judged, of a file that imports another beside it."""
    place = tmp_path_factory.mktemp("changes")
    text = "from wide import WIDTH\n" + TINY.read_text().replace("width=8", "width=WIDTH")
    (place / "ring.py").write_text(text)
    (place / "wide.py").write_text(SIBLING)
    outcome = em.distil(
        place / "ring.py", place / "a run", overrides=("training.steps=2",), reporter=em.Silent(), judge=False
    )
    return place, outcome


def test_a_run_need_not_be_judged(trained, monkeypatch):
    place, outcome = trained
    assert outcome.report is None
    assert not (place / "a run" / "evaluation.json").exists()

    def fail(*arguments):
        raise DataError("no reference")

    monkeypatch.setattr(Plan, "_judged", fail)
    with pytest.raises(DataError, match="no reference") as caught:
        em.distil(
            place / "ring.py", place / "a run", overrides=("training.steps=2",), resume=True, reporter=em.Silent()
        )
    (note,) = caught.value.__notes__
    assert "is done and saved" in note
    assert note.endswith(f"pplemd evaluate '{place / 'a run'}'")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("ring.py", lambda text: text.replace("depth=1", "depth=2")),
        ("wide.py", lambda text: text.replace("8", "16")),
        ("ring.py", lambda text: text.replace("tiny = em", "other = em")),
        ("ring.py", lambda text: "this is no Python"),
        ("wide.py", lambda text: None),
        ("ring.py", lambda text: None),
    ],
    ids=["depth", "sibling", "name", "nonsense", "sibling gone", "gone"],
)
def test_what_changed_is_said_and_the_run_is_left(trained, tmp_path, monkeypatch, file, change):
    place, _ = trained
    for name in ("ring.py", "wide.py"):
        shutil.copy(place / name, tmp_path)
    changed = change((place / file).read_text())
    (place / file).unlink()
    if changed is not None:
        (place / file).write_text(changed)
    monkeypatch.delitem(sys.modules, "wide", raising=False)
    try:
        with pytest.raises(PplemdError) as caught:
            load(RunFolder(place / "a run"), None, lambda sentence: None)
        monkeypatch.delitem(sys.modules, "wide", raising=False)
        if "no Python" not in str(changed) and changed is not None:
            again = load(RunFolder(place / "a run"), tmp_path / "ring.py", lambda sentence: None)
            assert again.step == 2  # what the message advises
    finally:
        for name in ("ring.py", "wide.py"):
            shutil.copy(tmp_path / name, place)
    told = "\n".join([str(caught.value), *caught.value.__notes__])
    assert str(place / file) in told
    assert "--model OLD_FILE.py" in told
    assert f"pplemd sample '{place / 'a run'}'" in told
    assert "remove" not in told.lower()
    assert "damaged" not in told
    if changed is not None:
        assert digest_of_file(place / file)[:12] in told  # as it was, and is again


def test_a_mistake_about_a_run_that_is_as_it_was_gets_no_note(trained, tmp_path):
    place, _ = trained
    shutil.copytree(place / "a run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(CheckpointError, match="no checkpoint yet") as caught:
        load(RunFolder(tmp_path / "run"), None, lambda sentence: None)
    assert not getattr(caught.value, "__notes__", [])
