"""Processes with eight virtual devices, which a process of tests has not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for what lies beside the tests: it is imported by path
ROOT = HERE.parents[1]
EIGHT = "--xla_force_host_platform_device_count=8"


def run(script: str, *arguments: str, given: str = ""):
    """What a script of this folder prints, in a process of its own."""
    paths = os.pathsep.join((str(ROOT), str(HERE)))
    environment = {**os.environ, "PYTHONPATH": paths, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {EIGHT}"}
    ended = subprocess.run(
        [sys.executable, HERE / script, *arguments],
        input=given, env=environment, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="session")
def on_eight():
    """Does tasks of on_eight.py in one process."""
    return lambda *tasks: run("on_eight.py", given=json.dumps(tasks))


@pytest.fixture(scope="session")
def line_on_eight(tmp_path_factory):
    """What line_on_eight.py found."""
    return run("line_on_eight.py", str(tmp_path_factory.mktemp("saved")))
