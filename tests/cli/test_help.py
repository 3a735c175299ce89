"""Help: examples, exit codes, and no wait for JAX."""

import inspect
import subprocess
import sys

import pytest

IMPORTED = """
import sys
try:
    from pplemd_cli.main import main
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
    assert "jax" not in sys.modules
    assert "numpy" not in sys.modules
"""

EXAMPLES = {
    "": ["pplemd distill models/digits.py", "130 stopped by Ctrl-C", "2 a mistake"],
    "distill": ["pplemd distill models/ring.py --steps 500", "--resume", "130 or 143"],
    "compare": ["pplemd compare models/ring.py --algorithms emd,diff-instruct,dmd,sid --budget steps=2000 --seeds 3"],
    "fid": ["pplemd fid x.npz --statistics cifar10-32x32.npz", "which comes with pplemd's extra `fid`"],
    "sample": ["pplemd sample runs/digits -n 50000"],
    "evaluate": ["pplemd evaluate runs/digits --seed 1 --json"],
    "diagnose": ["pplemd diagnose runs/digits --sigma 0.2 --sigma 1 --draws 2000", "R-hat near 1"],
    "report": ["pplemd report runs/ring runs/ring-2 runs/ring-3 --out ring.html"],
    "watch": ["pplemd watch runs/digits --once"],
    "inspect": ["pplemd inspect models/digits.py"],
    "teacher": ["pplemd teacher train models/digits.py"],
    "teacher train": ["pplemd teacher train models/digits.py --set teacher.training.steps=500"],
}


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_shows_examples_without_jax(shell, command):
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTED, *command.split(), "--help"],
        env=shell.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    plain = " ".join(ended.stdout.split())
    for example in EXAMPLES[command]:
        assert example in plain


def test_nuts_is_the_kernel_of_a_diagnosis_that_names_none():
    from pplemd_cli.diagnose import Kernel, diagnose

    assert inspect.signature(diagnose).parameters["kernel"].default is Kernel.nuts
