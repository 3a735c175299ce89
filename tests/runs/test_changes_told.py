"""What has changed since a run was started is a note of the mistake that comes of it; of files alone, no training."""

import json
from importlib.metadata import version

import pytest

from pplemd.errors import CheckpointError
from pplemd.runs.record import noted_changes
from pplemd.storage.checkpoints import digest_of_file
from pplemd.storage.folder import RunFolder


@pytest.fixture
def run(tmp_path):
    """A run folder with its model file and a file that that imports."""
    for name in ("ring.py", "wide.py"):
        (tmp_path / name).write_text(f"# {name}")
    model = {
        "path": str(tmp_path / "ring.py"),
        "sha256": digest_of_file(tmp_path / "ring.py"),
        "modules": {"wide.py": digest_of_file(tmp_path / "wide.py")},
        "name": "tiny",
    }
    config = {"model": model, "overrides": [], "packages": {"pplemd": version("pplemd"), "equinox": "0.0.1"}}
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.config.write_text(json.dumps(config))
    return folder


def notes(run, model_file=None):
    with pytest.raises(CheckpointError) as caught, noted_changes(run, model_file):
        raise CheckpointError("none of the 2 checkpoints can be read")
    return "\n".join(getattr(caught.value, "__notes__", []))


def test_files_that_are_gone_or_changed_and_libraries(run, tmp_path):
    before = digest_of_file(tmp_path / "ring.py")[:12]
    (tmp_path / "ring.py").write_text("# another")
    (tmp_path / "wide.py").unlink()
    said = notes(run)
    assert f"ring.py has changed (SHA-256 {before}... then, {digest_of_file(tmp_path / 'ring.py')[:12]}... now)" in said
    assert "wide.py is gone" in said
    assert f"equinox was 0.0.1, and is {version('equinox')}" in said
    assert "pplemd was" not in said
    assert said.endswith(f"pplemd sample {run.path} --model OLD_FILE.py")


def test_another_file_that_was_given(run, tmp_path):
    other = tmp_path / "other.py"
    other.write_text("# other")
    assert f"{other} has changed" in notes(run, other)


def test_nothing_that_changed_is_no_note(run):
    config = json.loads(run.config.read_text())
    run.config.write_text(json.dumps({**config, "packages": None}))
    assert notes(run) == ""
    run.config.write_text("{")
    assert notes(run) == ""
