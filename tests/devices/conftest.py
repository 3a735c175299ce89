"""Processes with eight virtual devices, which a process of tests has not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EIGHT = "--xla_force_host_platform_device_count=8"


@pytest.fixture(scope="session")
def on_eight():
    """Does tasks of on_eight.py in one process."""

    def do(*tasks):
        paths = os.pathsep.join((str(ROOT), str(HERE)))
        environment = {**os.environ, "PYTHONPATH": paths, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {EIGHT}"}
        ended = subprocess.run(
            [sys.executable, HERE / "on_eight.py"],
            input=json.dumps(tasks), env=environment, capture_output=True, text=True, timeout=500,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    return do
