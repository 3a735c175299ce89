"""How much sooner a second start reaches its first step: python tests/benchmarks/second_start.py [--model cifar10].

The same process twice, with a cache folder that is empty at first: what a command does up to its first step, of
models/cifar10.py at its true size with random weights (batch 1, K = 1, 32 bits). Seconds of wall time from the start of
Python up to the step's compilation or reading; to where the device begins it, which is its end less what the next step
takes; and to its end, which at true size is mostly the step itself. Seconds of processor time of all threads,
which other work on the same cores does not change. Start once before: Python writes its bytecode then.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
PROGRAMS = {"cifar10": "unconditional", "imagenet64": "imagenet64", "digits": "digits"}


def first_step(name: str, began: float) -> dict:
    """Plan, make the state, and run two steps as the loop does."""
    from pplemd_cli.options import prepare

    prepare(None, False)
    import jax

    sys.path.insert(0, str(Path(__file__).parent))
    from imagenet64 import random_teacher

    from pplemd.learning import Watcher
    from pplemd.runs.declared import declare

    small = (
        "training.batch=1",
        "algorithm.chain.length=1",
        "training.microbatches=1",
        "training.precision.bf16=false",
        "training.steps=2",
        "training.log_every=1",
    )
    small += ("algorithm.anchor=none",) if name == "digits" else ()
    declared = declare(ROOT / "models" / f"{name}.py", PROGRAMS[name], small)
    planned = declared.distillation.plan()
    work = planned.assemble(random_teacher(planned.teacher))
    state = work.initial()
    work = dataclasses.replace(work, initial=lambda: state)
    ready = time.time() - began
    ends: list[tuple[float, float]] = []
    watcher = Watcher(report=lambda step, figures: ends.append((time.time() - began, time.process_time())))
    jax.block_until_ready(work.train(watcher))
    (first, processor), (second, _) = ends
    reached = {"before_the_step_s": ready, "begins_the_step_s": first - (second - first)}
    return reached | {"first_step_s": first, "processor_s": processor}


def start(model: str, cache: str) -> dict:
    """Start once, with a cache folder."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "cli")])
    own = {"PPLEMD_CACHE": cache, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--model", model, "--one", str(time.time())]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own})
    if ended.returncode:
        sys.exit(ended.stderr)
    return json.loads(ended.stdout.splitlines()[-1])


def main() -> None:
    """Start twice, so many times, and print the medians of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(PROGRAMS), default="cifar10")
    parser.add_argument("--pairs", type=int, default=1, help="first and second starts")
    parser.add_argument("--one", type=float, help="when this process was started")
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(first_step(arguments.model, arguments.one)))
        return
    pairs = []
    for _ in range(arguments.pairs):
        with tempfile.TemporaryDirectory() as folder:
            pairs.append([start(arguments.model, folder) for _ in range(2)])
            kept = sum(file.stat().st_size for file in Path(folder, "compiled").rglob("*"))
        print(*pairs[-1], flush=True)
    first, second = ({name: median(pair[i][name] for pair in pairs) for name in pairs[0][i]} for i in range(2))
    for name in first:
        print(f"{name}: {first[name]:.2f}, {second[name]:.2f}, ratio {second[name] / first[name]:.3f}")
    print(f"{kept / 1e6:.1f} MB kept")


if __name__ == "__main__":
    main()
