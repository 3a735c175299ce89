"""Which folders a run may lie in."""

import json

import pytest

from pplemd.errors import CheckpointError
from pplemd.storage.folder import RunFolder, see_it_is_free


def made(folder, *names):
    """A folder with files, and folders where a name ends in /."""
    folder.mkdir()
    for name in names:
        place = folder / name
        place.mkdir(parents=True) if name.endswith("/") else place.write_text("mine")
    return folder


@pytest.mark.parametrize("names", [(), (".gitkeep", ".DS_Store"), (".config.json.12.tmp",), ("checkpoints/",)])
def test_an_empty_folder_is_free(tmp_path, names):
    RunFolder(tmp_path / "none yet").see_it_is_free()
    RunFolder(made(tmp_path / "run", *names)).see_it_is_free()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("notes.txt",), r"run holds notes\.txt, and no run; expected a folder that is empty"),
        (("photos/",), "run holds photos, and"),
        ((".git/",), r"run holds \.git, and"),
        (("metrics.jsonl", "checkpoints/100/"), r"run holds checkpoints, metrics\.jsonl, and"),
        (tuple("abcde"), r"run holds a, b, c and 2 more, and no run.*--out .*run/run"),
    ],
)
def test_what_others_have_there_is_named(tmp_path, names, words):
    with pytest.raises(CheckpointError, match=words):
        RunFolder(made(tmp_path / "run", *names)).see_it_is_free()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="file is a file; expected a folder"):
        see_it_is_free(tmp_path / "file", "comparison")


@pytest.mark.parametrize(
    ("content", "is_run"),
    [({"model": {}, "overrides": [], "training": {}}, True), ({"_class_name": "UNet2DModel"}, False), (None, True)],
)
def test_a_run_is_known_by_its_config(tmp_path, content, is_run):
    """A torn one may be a run's."""
    assert not RunFolder(tmp_path).is_run
    (tmp_path / "config.json").write_text("{" if content is None else json.dumps(content))
    assert RunFolder(tmp_path).is_run is is_run
