"""How much of ring's sliced W2 is the judge's own draws: python tests/benchmarks/fresh_draws.py runs/compare-ring.

Of each run in the folder: sliced W2 between 20,000 samples and exact draws, both drawn anew so many times, mean and
s.d. over draws; sharp; and of what is near a mode, its standard deviation and how far its mean lies from the mode's.
A row of exact draws alone is the floor.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

import pplemd as em
from pplemd.dsl import load_file
from pplemd.metrics.wasserstein import sliced_wasserstein

ROOT = Path(__file__).parents[2]
COUNT = 20_000
NEAR = 4  # standard deviations of a mode


def shape_of_modes(x: np.ndarray, means: np.ndarray, std: float) -> tuple[float, float]:
    """Mean over modes of the standard deviation, and of the distance of the mean, of the samples near each."""
    distances = np.sqrt(((x[:, None] - means) ** 2).sum(axis=-1))
    nearest = np.where(distances.min(axis=1) < NEAR * std, distances.argmin(axis=1), -1)
    groups = [x[nearest == mode] for mode in range(len(means))]
    width = np.mean([one.std(axis=0).mean() for one in groups])
    off = np.mean([np.linalg.norm(one.mean(axis=0) - mean) for one, mean in zip(groups, means, strict=True)])
    return float(width), float(off)


def main() -> None:
    """Print a row for exact draws, and for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of a comparison of models/ring.py")
    parser.add_argument("--draws", type=int, default=8)
    arguments = parser.parse_args()
    judge = load_file(ROOT / "models" / "ring.py").ring.evaluation
    measure, means = judge.prepare(), np.asarray(judge.means)
    runs = sorted(file.parent for file in arguments.folder.glob("*/evaluation.json"))
    sources = {"exact draws": lambda i: measure.real(COUNT, 10_000 + i)}
    for run in runs:
        sampler = em.load(run)
        sources[run.name] = lambda i, one=sampler: np.asarray(one.sample(jax.random.key(1000 + i), COUNT))
    print("| | sliced W2 | sharp | s.d. in a mode | offset of its mean |\n|---|---|---|---|---|")
    for name, source in sources.items():
        rows = []
        for i in range(arguments.draws):
            x = source(i)
            distance = sliced_wasserstein(x, measure.real(COUNT, 20_000 + i), seed=i)
            rows.append([distance, measure.measure(x)["sharp"], *shape_of_modes(x, means, judge.std)])
        mean, spread = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1)
        cells = " | ".join(f"{a:.3f} ({b:.3f})" for a, b in zip(mean, spread, strict=True))
        print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
