"""A second process that runs the command line, as a user would start it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
MAIN = "from pplemd_cli.main import main; main()"


DRIVER = """
import contextlib, io, json, sys
from pplemd_cli.main import main

found = {}
for name, arguments in json.load(sys.stdin).items():
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
    found[name] = [code, out.getvalue(), error.getvalue()]
print(json.dumps(found))
"""


class Shell:
    """Starts the command line in a working folder of its own, with a cache of its own.

    Args:
        folder: the working folder.
        compiled: where compiled code is kept.
    """

    def __init__(self, folder: Path, compiled: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'cli'}",
            "PPLEMD_CACHE": str(folder / "cache"),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(compiled),  # most of a short run is compilation
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
            "TF_CPP_MIN_LOG_LEVEL": "3",  # XLA's remarks on the compiled code that it finds again
            "COLUMNS": "100",
        }

    def start(self, *arguments: str) -> subprocess.Popen:
        """A process under way."""
        command = [sys.executable, "-c", MAIN, *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """A process that has ended."""
        with self.start(*arguments) as process:
            out, error = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, error)

    def drive(self, commands: dict[str, list[str]]) -> dict[str, list]:
        """Exit code, output and errors of many commands, one after the other in one process."""
        ended = subprocess.run(
            [sys.executable, "-c", DRIVER],
            input=json.dumps(commands), cwd=self.folder, env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture(scope="session")
def new_shell(tmp_path_factory):
    """Makes shells that share compiled code, and nothing else."""
    compiled = tmp_path_factory.mktemp("compiled")
    return lambda: Shell(tmp_path_factory.mktemp("shell"), compiled)


@pytest.fixture
def shell(new_shell):
    return new_shell()


@pytest.fixture(scope="session")
def ring() -> str:
    return str(HERE / "tiny_ring.py")


@pytest.fixture(scope="session")
def taught() -> str:
    return str(HERE / "tiny_taught.py")
