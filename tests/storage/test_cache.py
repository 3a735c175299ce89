import logging
from pathlib import Path

import numpy as np
import pytest

from pplemd.storage import compiled
from pplemd.storage.compiled import cache_dir, cached_arrays


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PPLEMD_CACHE", str(tmp_path / "deep" / "cache"))
    return tmp_path / "deep" / "cache"


class _Builder:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"a": np.arange(6.0).reshape(2, 3), "b": np.array([self.calls], np.int32)}


def test_arrays_are_built_once_for_each_key(folder):
    build = _Builder()
    first, again = cached_arrays("one", build), cached_arrays("one", build)
    assert build.calls == 1
    assert sorted(again) == ["a", "b"]
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype
    assert cached_arrays("two", build)["b"][0] == 2
    assert len(list(folder.iterdir())) == 2  # and no temporary file


@pytest.mark.parametrize("damage", ["truncate", "empty", "foreign", "flip", "pickle"])
def test_a_damaged_file_is_built_again(folder, caplog, damage):
    build = _Builder()
    cached_arrays("one", build)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    if damage == "pickle":
        np.savez(path, a=np.array([{}], dtype=object))
    else:
        flipped = whole[:150] + bytes([whole[150] ^ 255]) + whole[151:]
        path.write_bytes({"truncate": whole[:100], "empty": b"", "foreign": b"junk", "flip": flipped}[damage])
    with caplog.at_level(logging.WARNING, "pplemd"):
        assert cached_arrays("one", build)["b"][0] == 2
    assert "damaged" in caplog.text
    assert cached_arrays("one", build)["b"][0] == 2
    assert build.calls == 2


def test_an_unwritable_folder_costs_only_time(folder, caplog):
    folder.parent.mkdir()
    folder.write_text("a file where the folder should be")
    build = _Builder()
    with caplog.at_level(logging.WARNING, "pplemd"):
        assert cached_arrays("one", build)["b"][0] == 1
        assert cached_arrays("one", build)["b"][0] == 2
    assert "cannot be written" in caplog.text


def test_a_failed_write_leaves_nothing_behind(folder, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(compiled.np, "savez", full)
    assert cached_arrays("one", _Builder())["b"][0] == 1
    assert list(folder.iterdir()) == []
    assert "no space left" in caplog.text


def test_where_the_cache_lies(folder, monkeypatch, tmp_path):
    assert cache_dir() == folder
    monkeypatch.delenv("PPLEMD_CACHE")
    monkeypatch.setattr(compiled.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "pplemd"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "pplemd"
    monkeypatch.setattr(compiled.sys, "platform", "darwin")
    assert cache_dir() == Path.home() / "Library" / "Caches" / "pplemd"
