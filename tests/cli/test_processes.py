"""Two processes over loopback: they train one run, save it, stop together, and end when one is lost."""

import json
import os
import signal
import socket
import time

import numpy as np
import pytest

pytestmark = pytest.mark.slow

LONG = ("--set", "training.steps=4000", "--set", "training.checkpoint_every=10", "--set", "training.sample_every=10000")
BOUND = 90  # seconds in which a process ends after another was lost


def port() -> int:
    """A port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def pair(shell, *command):
    """Two processes of a command."""
    at = f"127.0.0.1:{port()}"
    numbers = ("--coordinator", at, "--processes", "2", "--process-id")
    return [shell.start(*command, *numbers, str(number)) for number in (0, 1)]


def ended(process, seconds=240):
    """Exit code, output and errors of a process that ends by itself."""
    out, error = process.communicate(timeout=seconds)
    return process.returncode, out, error


def wait(true, processes, seconds=180):
    """Until something is true of processes that are still running."""
    end = time.monotonic() + seconds
    while not true():
        assert all(process.poll() is None for process in processes), [p.communicate() for p in processes]
        assert time.monotonic() < end
        time.sleep(0.02)


def saved(run):
    """Numbers of whole checkpoints."""
    return sorted(int(path.name) for path in (run / "checkpoints").glob("*") if path.name.isdigit())


def newest(run):
    return max(saved(run), default=0)


@pytest.fixture(scope="module")
def whole(new_shell, ring):
    """The run of one process."""
    shell = new_shell()
    done = shell.run("distill", ring, "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    return shell.folder / "run"


def figures(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_what_one_does(shell, ring, whole):
    results = [ended(process) for process in pair(shell, "distill", ring, "--out", "run", "--json")]
    assert [code for code, _, _ in results] == [0, 0], results
    told = json.loads(results[0][1])
    assert results[1][1] == ""  # the first one speaks
    assert told["steps"] == 30
    run = shell.folder / "run"
    assert json.loads((run / "config.json").read_text())["mesh"] == "data=2"
    assert saved(run) == [20, 30]
    for mine, alone in zip(figures(run), figures(whole), strict=True):
        assert mine["step"] == alone["step"]
        for name in ("score_loss", "pull", "gradient_norm"):
            np.testing.assert_allclose(mine[name], alone[name], rtol=1e-4)
    read = shell.run("sample", "run", "-n", "20", "--out", "a.npz")  # by one process, on one device
    assert read.returncode == 0, read.stderr


@pytest.mark.parametrize("lost", [0, 1])
def test_when_one_is_lost_the_other_ends_and_one_goes_on(shell, ring, lost):
    run, command = shell.folder / "run", ("distill", ring, "--out", "run", *LONG)
    processes = pair(shell, *command)
    wait(lambda: newest(run) >= 30, processes)
    processes[lost].send_signal(signal.SIGKILL)
    began = time.monotonic()
    code, _, error = ended(processes[1 - lost], BOUND)
    processes[lost].communicate()
    assert time.monotonic() - began < BOUND
    assert code not in (0, None)
    assert "another process of this run was lost" in error or "another task died" in error
    before = newest(run)
    assert before >= 30
    process = shell.start(*command, "--resume")  # alone
    wait(lambda: newest(run) >= before + 10, [process])
    process.send_signal(signal.SIGTERM)
    code, _, error = ended(process)
    assert code == 143
    assert "was started on data=2, and goes on with one device" in error


@pytest.mark.parametrize("asked", [0, 1])
def test_a_stop_of_either_saves_and_ends_both(shell, ring, asked):
    run = shell.folder / "run"
    processes = pair(shell, "distill", ring, "--out", "run", *LONG)
    wait(lambda: newest(run) >= 10, processes)
    processes[asked].send_signal(signal.SIGTERM)
    results = [ended(process, BOUND) for process in processes]
    assert [code for code, _, _ in results] == [143, 143], results
    for _, _, error in results:
        assert f"stopped after step {newest(run)} by SIGTERM; it is saved" in error


def test_slurm_is_understood(shell, ring):
    """What srun sets for a step of two tasks on this machine."""
    job = str(os.getpid())  # settles the port
    processes = []
    for number in (0, 1):
        shell.environment |= {
            "SLURM_JOB_ID": job,
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(number),
            "SLURM_LOCALID": str(number),
        }
        processes.append(shell.start("distill", ring, "--out", "run", "--json"))
    results = [ended(process) for process in processes]
    assert [code for code, _, _ in results] == [0, 0], results


def test_the_first_one_s_mistake_is_told_by_both(shell, ring):
    (shell.folder / "run").write_text("a file")
    results = [ended(process) for process in pair(shell, "distill", ring, "--out", "run")]
    assert [code for code, _, _ in results] == [2, 2], results
    assert all("is a file; expected a folder" in error for _, _, error in results)
