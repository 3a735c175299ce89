"""A board is told what the loop tells, after the folder was."""

import pytest
from PIL import Image

from pplemd.learning import Watcher
from pplemd.report.tensorboard import AbstractBoard, NoBoard
from pplemd.runs.journal import with_board


class RaisedAlarm(AbstractBoard):
    """Remembers."""

    def __init__(self):
        self.told = []

    def begin(self, step):
        self.told.append(("begin", step))

    def figures(self, step, figures):
        self.told.append(("figures", step, figures))

    def picture(self, step, image):
        self.told.append(("picture", step, image.size))

    def close(self):
        self.told.append("closed")


def test_a_board_is_told_everything(tmp_path):
    samples, order, board = tmp_path / "samples.png", [], RaisedAlarm()

    def picture(step, state):
        order.append(step)
        if state == "drawn":
            Image.new("L", (3, 2)).save(samples)

    watcher = Watcher(report=lambda step, figures: order.append(figures), picture=picture, begin=order.append)
    with with_board(watcher, board, samples) as followed:
        followed.begin(5)
        followed.report(6, {"pull": 1.0})
        followed.picture(7, "nothing")
        followed.picture(8, "drawn")
        followed.advance(9)
    assert order == [5, {"pull": 1.0}, 7, 8]
    assert board.told == [("begin", 5), ("figures", 6, {"pull": 1.0}), ("picture", 8, (3, 2)), "closed"]


def test_a_board_is_closed_however_it_ends(tmp_path):
    board = RaisedAlarm()
    with pytest.raises(KeyError), with_board(Watcher(), board, tmp_path / "samples.png"):
        raise KeyError
    assert board.told == ["closed"]


def test_a_board_that_fails_is_left_out(tmp_path):
    class Failing(NoBoard):
        def figures(self, step, figures):
            raise OSError(28, "No space left on device")

        def close(self):
            raise OSError(28, "No space left on device")

    notes, reports = [], []
    told = Watcher(report=lambda step, figures: reports.append(figures), note=notes.append)
    with with_board(told, Failing(), tmp_path / "samples.png") as watcher:
        watcher.report(5, {"pull": 1.0})
        watcher.report(10, {"pull": 0.5})
    assert reports == [{"pull": 1.0, "failed_tensorboard_file": 1.0}, {"pull": 0.5, "failed_tensorboard_file": 1.0}]
    (note,) = notes
    assert "the TensorBoard file failed (OSError: no space left on the disk)" in note
