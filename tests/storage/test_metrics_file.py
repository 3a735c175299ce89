"""A line of metrics.jsonl is written whole or not at all: lines after a torn one would not be read."""

import errno
import os

import pytest

from pplemd.errors import CheckpointError
from pplemd.storage import folder
from pplemd.storage.folder import MetricsFile, complete_lines


def test_a_line_for_which_there_is_no_room_leaves_none_torn(tmp_path, monkeypatch):
    lines = MetricsFile(tmp_path / "metrics.jsonl")
    lines.append(1, {"pull": 1.0})

    def full(file, content):
        file.write(content[:7])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(folder, "_write_whole", full)
        with pytest.raises(CheckpointError, match="no space left"):
            lines.append(2, {"pull": 2.0})
    lines.append(3, {"pull": 3.0})
    assert list(complete_lines(tmp_path / "metrics.jsonl")) == [{"step": 1, "pull": 1.0}, {"step": 3, "pull": 3.0}]
