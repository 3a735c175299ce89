"""A run is followed while another writes it, to its end or until it was stopped."""

import fcntl
import io
import json
import threading
import time

import pytest
from rich.console import Console

from pplemd.errors import CheckpointError
from pplemd.report.terminal import State
from pplemd.runs.following import watch

STEPS = 40


@pytest.fixture
def begun(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"training": {"steps": STEPS, "seed": 0}}))
    return tmp_path


def write(path, until, judged, locked):
    """What a run does: takes the lock, writes lines, lets go, is judged."""
    with (path / "checkpoints" / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        locked.set()
        for step in range(10, until + 1, 10):
            time.sleep(0.1)
            with (path / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, "pull": 1 / step}) + "\n")
        time.sleep(0.1)
    if judged:
        time.sleep(0.1)
        (path / "evaluation.json").write_text('{"student": {"recall": 0.5}}')


def followed(path, terminal, until=STEPS, judged=True):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80, height=30)
    locked = threading.Event()
    writer = threading.Thread(target=write, args=(path, until, judged, locked))
    writer.start()
    locked.wait()
    try:
        return watch(path, every=0.03, console=console), console.file.getvalue()
    finally:
        writer.join()


def test_lines_until_it_ends(begun):
    state, text = followed(begun, terminal=False)
    assert state is State.finished
    lines = text.splitlines()
    assert lines[-1].startswith(f"{begun.name}: finished, 40 of 40")
    assert any("training, 20 of 40" in line for line in lines)
    assert len(lines) == len(set(lines))  # nothing is said twice


def test_a_display_until_it_ends(begun):
    state, text = followed(begun, terminal=True)
    assert state is State.finished
    for phrase in ("getting ready", "20 of 40", "Pull", "Recall"):
        assert phrase in text


def test_a_run_that_is_stopped(begun):
    state, text = followed(begun, terminal=False, until=20, judged=False)
    assert state is State.stopped
    assert "stopped, 20 of 40" in text.splitlines()[-1]


def test_once(begun):
    console = Console(file=io.StringIO(), width=80)
    assert watch(begun, once=True, console=console) is State.stopped
    assert "0 of 40" in console.file.getvalue()


def test_no_run(tmp_path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        watch(tmp_path / "nowhere")
