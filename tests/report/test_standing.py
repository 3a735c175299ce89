import fcntl
import io
import json
import os

import pytest
from made_runs import metrics
from rich.console import Console

from pplemd.report.terminal import State, clock, line, look, shown, spark


@pytest.fixture
def locked():
    """Locks a run's checkpoints as a training does."""
    files = []

    def lock(path):
        (path / "checkpoints").mkdir(exist_ok=True)
        file = (path / "checkpoints" / ".lock").open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        files.append(file)
        return file

    yield lock
    for file in files:
        file.close()


def text(standing, encoding="utf-8", **options):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(width=100, file=file).print(shown(standing, **options))
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def test_a_run_from_its_start_to_its_end(made, locked):
    path = made(lines=[], judged=False)
    lock = locked(path)
    assert look(path).state is State.waiting
    (path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in metrics()[:5]))
    seen = look(path)
    assert seen.state is State.training
    assert "50 of 200" in text(seen)
    lock.close()
    assert look(path).state is State.stopped
    (path / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in metrics()))
    assert look(path).state is State.evaluation_seed
    (path / "evaluation.json").write_text('{"student": {"recall": 0.9}}')
    seen = look(path)
    assert seen.state is State.finished
    assert seen.state.ended
    assert "Recall" in text(seen)
    assert "alarm: score lag, from step 50" in text(seen)


def test_what_falls_short_is_said_at_the_end(made):
    told = "The student falls short of its teacher: Recall 0.300 beside 0.950."
    assert told in " ".join(text(look(made("poor", student=0.3))).split())
    assert "falls short" not in text(look(made("good", student=0.9)))


def test_pace_and_time_left(made, locked):
    path = made(lines=metrics()[:10], judged=False)
    locked(path)
    for step, seconds in ((40, 1000.0), (80, 1020.0)):
        (path / "checkpoints" / str(step)).mkdir()
        os.utime(path / "checkpoints" / str(step), (seconds, seconds))
    os.utime(path / "metrics.jsonl", (1030.0, 1030.0))
    seen = look(path)
    assert seen.pace == pytest.approx(2.0)
    assert seen.left == pytest.approx(50.0)
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(metrics()[10]) + "\n")
    os.utime(path / "metrics.jsonl", (1035.0, 1035.0))
    again = look(path, seen)
    assert [mark.step for mark in again.marks] == [40, 80, 100, 110]
    assert "0:45 left" in line(again)


def test_a_run_that_was_resumed_begins_its_pace_anew(made, locked):
    path = made(lines=metrics()[:10], judged=False)
    locked(path)
    seen = look(path)
    assert seen.marks[-1].step == 100
    (path / "metrics.jsonl").write_text(json.dumps(metrics()[0]) + "\n")
    again = look(path, seen)
    assert (again.pace, again.left) == (None, None)
    assert again.run_record.step == 10


def test_curves_in_a_line():
    assert spark([0.0, 1.0, 2.0, 3.0], "abcd") == "abcd"
    assert spark([1.0, 10.0, 100.0], "abc", log=True) == "abc"
    assert spark([float("nan"), 1.0, 2.0], "ab") == " ab"
    assert spark([float("nan")]) == ""
    assert spark([], log=True) == ""
    assert len(spark(list(map(float, range(1000))))) == 32
    assert spark([2.0, 2.0], "abc") == "bb"


def test_a_terminal_without_unicode(made):
    assert "@" in text(look(made()), "ascii", plain=True)


def test_few_rows_are_shown_where_there_is_no_room(made):
    assert "more" in text(look(made()), rows=2)


def test_clock():
    assert [clock(seconds) for seconds in (5.0, 65.9, 3661.0)] == ["0:05", "1:05", "1:01:01"]


def test_an_evaluation_of_an_earlier_step_is_no_end(made):
    path = made()
    newest = os.stat(path / "metrics.jsonl").st_mtime
    os.utime(path / "evaluation.json", (newest - 30, newest - 30))
    assert look(path).state is State.finished  # as copying leaves it
    os.utime(path / "evaluation.json", (newest - 300, newest - 300))
    assert look(path).state is State.evaluation_seed
    os.utime(path / "metrics.jsonl", (newest - 9000, newest - 9000))
    assert look(path).state is State.finished
    (path / "evaluation.json").unlink()
    assert look(path).state is State.stopped
