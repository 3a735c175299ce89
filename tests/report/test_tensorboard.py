"""TensorBoard's files, read back."""

import struct
import sys

import pytest
from PIL import Image

from pplemd.errors import DataError
from pplemd.report.tensorboard import NoBoard, board_of


def events(folder):
    """Step, tag and value of everything in a folder, in order of writing."""
    proto = pytest.importorskip("tensorboardX.proto.event_pb2", reason="extra `tensorboard`")
    found = []
    for path in sorted(folder.iterdir()):
        content, place = path.read_bytes(), 0
        while place < len(content):  # a record is its length, a checksum, the bytes, a checksum
            (length,) = struct.unpack_from("<Q", content, place)
            event = proto.Event.FromString(content[place + 12 : place + 12 + length])
            place += 16 + length
            found += [(event.step, one.tag, one) for one in event.summary.value]
    return found


def test_figures_and_pictures_are_written(tmp_path):
    pytest.importorskip("tensorboardX", reason="extra `tensorboard`")
    board = board_of(tmp_path, True)
    board.begin(0)
    board.figures(10, {"pull": 0.5, "run_recall": 0.75, "score_lag": float("nan")})
    board.picture(10, Image.new("L", (4, 3), 128))
    board.close()
    found = events(tmp_path / "tensorboard")
    scalars = {tag: (step, one.simple_value) for step, tag, one in found if one.HasField("simple_value")}
    assert scalars["pull"] == (10, 0.5)
    assert scalars["run/recall"] == (10, 0.75)
    (image,) = [one.image for _, tag, one in found if tag == "samples"]
    assert (image.width, image.height) == (4, 3)


def test_a_board_that_is_not_wanted_writes_nothing(tmp_path):
    board = board_of(tmp_path, False)
    assert isinstance(board, NoBoard)
    board.begin(0)
    board.figures(1, {"pull": 1.0})
    board.close()
    assert not list(tmp_path.iterdir())


def test_without_the_extra_the_repair_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(DataError, match=r"pip install 'pplemd\[tensorboard\]'"):
        board_of(tmp_path, True)
