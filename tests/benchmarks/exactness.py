"""Adjusted kernels on laws with known moments, by densities and by scores alone: errors in standard errors, and ESS.

Run by hand, not by pytest: `python tests/benchmarks/exactness.py [--kernels mala hmc] [--json]`. Laws, kernels and
lengths are those of tests/inference/test_exactness.py, which meets fewer laws by their scores. An error above 4 in a
row's 14 moments (means and variances of seven coordinates), or an effective sample size below 400, is a failure.
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
TEST = Path(__file__).parents[1] / "inference" / "test_exactness.py"


def loaded(path: Path):
    """A test file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(test, names):
    """A row for each kernel, way and law."""
    for name in names:
        for way in ("density", "scores"):
            found, acceptance = test.run(*test.ADJUSTED[name], way == "scores", len(test.known.TARGETS))
            for number, (u, accepted) in enumerate(zip(found, acceptance, strict=True)):
                errors, ess = test.judged(u, number)
                yield {
                    "kernel": name,
                    "by": way,
                    "law": test.known.TARGETS[number].name,
                    "error": float(np.abs(errors).max()),
                    "ess": float(ess.min()),
                    "acceptance": float(accepted),
                }


def main():
    """Print a table, the laws in rows, and how many rows fail."""
    test = loaded(TEST)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", nargs="+", choices=test.ADJUSTED, default=list(test.ADJUSTED))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = list(rows(test, arguments.kernels))
    if arguments.json:
        print(json.dumps(found))
        return
    columns = list(dict.fromkeys((row["kernel"], row["by"]) for row in found))
    print(
        "| law | "
        + " | ".join(f"{kernel}, {way}" for kernel, way in columns)
        + " |\n"
        + "|---" * (len(columns) + 1)
        + "|"
    )
    for law in dict.fromkeys(row["law"] for row in found):
        of = {(row["kernel"], row["by"]): row for row in found if row["law"] == law}
        print(f"| {law} | " + " | ".join(f"{of[c]['error']:.1f} ({of[c]['ess']:.0f})" for c in columns) + " |")
    failed = sum(row["error"] > 4 or row["ess"] < 400 for row in found)
    print(f"\n{failed} of {len(found)} rows fail.")


if __name__ == "__main__":
    main()
