"""Runs that are killed, stopped or damaged, and go on: the same figures, byte for byte."""

import json
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("PPLEMD_KILLS", "2"))  # the test is written for any number; each costs a start
LONG = ("--set", "training.steps=500", "--set", "training.checkpoint_every=10")


def steps(folder: Path) -> list[int]:
    """The numbers of the whole checkpoints in a folder."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit())


def wait(true, process, seconds=60.0):
    """Until something is true of a process that is still running."""
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def begins(run: Path):
    """Whether the loop of a process that starts now has begun: it writes metrics.jsonl anew."""
    file = run / "metrics.jsonl"
    before = file.stat().st_mtime_ns if file.exists() else None
    return lambda: file.exists() and file.stat().st_mtime_ns != before


def lines(run: Path) -> int:
    """Lines of metrics so far."""
    file = run / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


def stop(process, number):
    """Send a signal; what the process said."""
    process.send_signal(number)
    out, error = process.communicate(timeout=60)
    assert "Traceback" not in error
    assert out == ""
    return error


def same(run: Path, whole: Path):
    """Whether two runs left the same figures and the same generator."""
    for name in ("metrics.jsonl", "samples.png"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list((run / "checkpoints").glob("*tmp*"))


@pytest.fixture(scope="module")
def whole(new_shell, ring):
    """A long run that nothing interrupted."""
    shell = new_shell()
    ended = shell.run("distill", ring, "--out", "run", *LONG)
    assert ended.returncode == 0, ended.stderr
    return shell.folder / "run"


def moment(run: Path, process, chance: random.Random, number: int) -> None:
    """Wait for a random moment of a process: of its preparation and compilation, or somewhere in its training."""
    before, has_begun = lines(run), begins(run)
    wait(has_begun, process)
    if number == 0:
        return  # before the first checkpoint
    if number % 3 == 0:
        time.sleep(chance.uniform(0.0, 1.0))
        return
    wanted = chance.randint(2, 5)
    wait(lambda: lines(run) >= before + wanted, process)
    time.sleep(chance.uniform(0.0, 0.1))


def test_kills_and_two_stops_change_nothing(shell, ring, whole):
    run, chance, newest = shell.folder / "run", random.Random(2405), 0
    command = ("distill", ring, "--out", "run", "--resume", *LONG)
    for kill in range(KILLS):
        process = shell.start(*command)
        moment(run, process, chance, kill)
        stop(process, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert max(steps(run / "checkpoints"), default=0) >= newest
        newest = max(steps(run / "checkpoints"), default=0)
    assert newest >= 10
    for number in (signal.SIGINT, signal.SIGTERM):
        before = lines(run)
        process = shell.start(*command)
        wait(lambda before=before: lines(run) > before + 1, process)
        said = stop(process, number)
        assert process.returncode == 128 + number
        assert f"stopped after step {steps(run / 'checkpoints')[-1]} by {number.name}; it is saved" in said
        assert "--resume" in said
    ended = shell.run(*command, "--json")
    assert ended.returncode == 0, ended.stderr
    same(run, whole)


@pytest.mark.slow
def test_a_stop_before_the_loop_says_so(shell, ring):
    process = shell.start("distill", ring, "--out", "run")
    wait((shell.folder / "run" / "config.json").exists, process)
    assert "stopped" in stop(process, signal.SIGINT)
    assert process.returncode == 130


@pytest.mark.slow
def test_a_kill_after_the_last_checkpoint(shell, ring):
    run = shell.folder / "run"
    process = shell.start("distill", ring, "--out", "run")
    wait((run / "checkpoints" / "30").exists, process)
    stop(process, signal.SIGKILL)
    assert not (run / "evaluation.json").exists()
    ended = shell.run("distill", ring, "--out", "run", "--resume", "--json")
    assert ended.returncode == 0, ended.stderr
    assert (run / "evaluation.json").exists()
    written = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert written == [7, 14, 21, 28, 30]


def test_damaged_checkpoints(shell, ring, whole):
    run = shell.folder / "run"
    shutil.copytree(whole, run)
    data = [path for path in (run / "checkpoints" / "500" / "state").rglob("*") if path.is_file()]
    largest = max(data, key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    ended = shell.run("distill", ring, "--out", "run", "--resume", "--json")
    assert ended.returncode == 0, ended.stderr
    assert "checkpoint 500" in ended.stderr
    assert "cannot be read" in ended.stderr
    same(run, whole)


@pytest.mark.slow
def test_a_teacher_that_is_stopped_goes_on(new_shell, taught):
    command = ("teacher", "train", taught, "--set", "teacher.training.steps=400")
    shell, other = new_shell(), new_shell()
    folder = shell.folder / "cache"
    process = shell.start(*command)
    wait(lambda: any(steps(partial) for partial in folder.glob("*.partial")), process)
    assert "Go on with the same command" in stop(process, signal.SIGTERM)
    assert process.returncode == 143
    for each in (shell, other):
        ended = each.run(*command)
        assert ended.returncode == 0, ended.stderr
    (mine,), (whole,) = folder.glob("*"), (other.folder / "cache").glob("*")  # no *.partial is left
    with np.load(mine) as a, np.load(whole) as b:
        assert all(np.array_equal(a[name], b[name]) for name in a.files)
    assert (shell.folder / "teacher.png").read_bytes() == (other.folder / "teacher.png").read_bytes()
