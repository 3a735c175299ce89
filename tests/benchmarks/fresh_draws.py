"""The share of the evaluation's draws in a comparison's figures: python tests/benchmarks/fresh_draws.py runs/compare-x.

Judges each run of a comparison's folder by several draws of its samples, the same draws for all: mean and s.d. of each
figure over draws, then differences from the first method's run of the same seed, draw by draw, mean and standard error.
Of mixtures the exact draws that samples are compared with are drawn anew too, exact draws are judged beside the runs,
and two figures describe the shape of modes: the standard deviation of what is near one, and how far its mean is off.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np

import pplemd as em
from pplemd.metrics.mixtures import MixtureMeasure
from pplemd.runs.declared import declare
from pplemd.tasks.evaluation import timed_samples

NEAR = 4  # standard deviations of a mode
SHAPE = ("s.d. in a mode", "offset of its mean")
LEFT_OUT = ("modes", "seconds_per_1000")


def shape_of_modes(x: np.ndarray, means: np.ndarray, std: float) -> dict[str, float]:
    """Means over modes, of the samples near each."""
    distances = np.sqrt(((x[:, None] - means) ** 2).sum(axis=-1))
    nearest = np.where(distances.min(axis=1) < NEAR * std, distances.argmin(axis=1), -1)
    groups = [x[nearest == mode] for mode in range(len(means))]
    width = np.mean([one.std(axis=0).mean() for one in groups])
    off = np.mean([np.linalg.norm(one.mean(axis=0) - mean) for one, mean in zip(groups, means, strict=True)])
    return dict(zip(SHAPE, (float(width), float(off)), strict=True))


def figures(measure, x: np.ndarray, labels: np.ndarray | None, i: int) -> dict[str, float]:
    """All figures of the i-th draw."""
    if not isinstance(measure, MixtureMeasure):
        return measure.measure(x, labels=labels)
    fresh = dataclasses.replace(measure, reference=measure.real(len(measure.reference), 20_000 + i))
    return fresh.measure(x, seed=i) | shape_of_modes(x, measure.means, float(measure.std[0]))


def table(rows: dict[str, tuple[np.ndarray, np.ndarray]], names: list[str]) -> None:
    """A row for each run: mean and spread of each figure."""
    print("\n| | " + " | ".join(names) + " |\n|" + "---|" * (1 + len(names)))
    for name, (mean, spread) in rows.items():
        print(f"| {name} | " + " | ".join(f"{a:.4f} ({b:.4f})" for a, b in zip(mean, spread, strict=True)) + " |")


def main() -> None:
    """Judge every run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a comparison")
    parser.add_argument("--draws", type=int, default=6)
    arguments = parser.parse_args()
    compared = json.loads((arguments.folder / "compare.json").read_text())
    declared = declare(Path(compared["model"]), compared["name"], tuple(compared["overrides"]))
    evaluation = declared.distillation.evaluation
    measure, found = evaluation.prepare(), {}
    rows = [run for row in compared["methods"].values() for run in row["by_seed"] if "student" in run]
    first = {run["seed"]: run["folder"] for run in reversed(rows)}  # of each seed, the first method's
    runs = {run["folder"]: first[run["seed"]] for run in sorted(rows, key=lambda run: run["seed"])}
    if isinstance(measure, MixtureMeasure):
        draws = range(arguments.draws)
        found["exact draws"] = [figures(measure, measure.real(evaluation.count, 10_000 + i), None, i) for i in draws]
    for run in runs:
        sampler = em.load(arguments.folder / run)
        some = [
            timed_samples(sampler.sample, jax.random.key(1000 + i), evaluation.count, sampler.conditions)
            for i in range(arguments.draws)
        ]
        found[run] = [figures(measure, one.x, one.labels, i) for i, one in enumerate(some)]
        print(f"{run} is judged", flush=True)
    names = [name for name in next(iter(found.values()))[0] if name not in LEFT_OUT]
    values = {run: np.array([[one[name] for name in names] for one in rows]) for run, rows in found.items()}
    table({run: (one.mean(axis=0), one.std(axis=0, ddof=1)) for run, one in values.items()}, names)
    apart = {}
    for run, other in runs.items():
        less = values[run] - values[other]
        apart[f"{run} less {other}"] = (less.mean(axis=0), less.std(axis=0, ddof=1) / len(less) ** 0.5)
    table({name: row for name, row in apart.items() if row[0].any()}, names)


if __name__ == "__main__":
    main()
