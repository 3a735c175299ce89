"""Progress where there is no terminal: lines on standard error, and no absurd time left."""

import io
import re

import pytest
from rich.console import Console

from pplemd.report import progress
from pplemd.report.progress import Terminal


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets, and lines after every second."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "QUIET_SECONDS", 1.0)
    return now


def run(clock, total, done, seconds):
    with Terminal().progress("distil", total, ("pull",)) as task:
        for each in done:
            task.to(each)
            task.show({"pull": 0.5, "other": 1.0})
            clock[0] += seconds


def test_time_left_leaves_compilation_out(clock, capsys):
    with Terminal().progress("distil", 100, ("pull",)) as task:
        clock[0] += 60.0  # compiling
        for step in range(1, 6):
            task.to(step)
            task.show({"pull": 0.5, "other": 1.0})
            clock[0] += 2.0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0] == "distil: 2 of 100, 3:16 left  pull 0.5"
    assert said.err.splitlines()[-1] == "distil: 5 of 100, 3:10 left  pull 0.5"


def test_a_resumed_run_counts_its_own_steps(clock, capsys):
    run(clock, 4000, range(3901, 3905), 3.0)
    assert "distil: 3,904 of 4,000, 4:48 left" in capsys.readouterr().err


def test_shares_are_percentages_and_hours_are_shown(clock, capsys):
    run(clock, 1.0, [0.001, 0.002], 10.0)
    lines = capsys.readouterr().err
    assert re.search(r"distil: 0 %, 2:46:\d\d left", lines)


def test_preparation_is_told_after_a_while(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.01)
    with Terminal().progress("distil", 10) as task:
        task._preparing.join()
        task.to(1)
    assert capsys.readouterr().err == "distil: getting ready\n"


def test_short_work_is_silent(capsys):
    with Terminal().progress("distil", 10) as task:
        for step in range(1, 11):
            task.to(step)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=screen, force_terminal=True, width=120))
    with Terminal().progress("distil", 4000, ("pull",)) as task:
        for step in range(3901, 4001):
            task.to(step)
            task.show({"pull": 0.5, "other": 1.0})
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    states = [state for state in re.split(r"[\r\n]+", shown) if state.strip()]
    assert "getting ready" in states[0]
    assert re.search(r"distil +━{20} 4,000 of 4,000 0:00:0\d 0:00 left pull 0.5", states[-1])
    assert "other" not in shown


def test_a_terminal_shows_shares(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=screen, force_terminal=True, width=120))
    with Terminal().progress("judge", 1.0) as task:
        for share in (0.25, 0.5, 1.0):
            task.to(share)
    assert "100 %" in screen.getvalue()


def test_a_phase_is_told_by_lines_with_its_time(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.01)
    with Terminal().progress("judge", 1.0) as task:
        task.phase("compiling")
        for _ in range(3):
            task._preparing.join()
        task.to(0.5)
        task.phase("compiling")
        task._preparing.join()
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["judge: compiling", "judge: compiling, 0:00"]
    assert "judge: compiling, about 0:00" in lines


def test_a_phase_is_told_on_a_bar_and_the_time_left_of_the_work_is_not(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=screen, force_terminal=True, width=120))
    with Terminal().progress("distil", 40, ("pull",)) as task:
        task.phase("compiling \x1b[2J")
        for step in range(1, 41):
            task.to(step)
        task.phase("health check")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    states = [state for state in re.split(r"[\r\n]+", shown) if state.strip()]
    assert re.search(r"40 of 40 0:00:0\d +health check, 0:00", states[-1])
    assert "left" not in states[-1]
    assert "\x1b[2J" not in screen.getvalue()


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\u202e", "\x00", "\ud800"])
def test_nothing_that_is_said_commands_the_terminal(hostile, capsys):
    told = Terminal()
    told.say(f"checkpoint of {hostile}w\nsecond line")
    with told.progress(f"draw {hostile}", 10, ("pull",)) as task:
        task._print(hostile)
    said = capsys.readouterr().err
    assert hostile not in said
    assert f"checkpoint of {ascii(hostile)[1:-1]}w\nsecond line\n" in said
