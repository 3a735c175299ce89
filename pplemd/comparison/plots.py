"""Pictures of a comparison: figures over network evaluations, and samples side by side."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pplemd.plotting.curves import Curve, curves
from pplemd.plotting.samples import draw, montage, save_png
from pplemd.report.progress import AbstractReporter
from pplemd.runs.declared import declare
from pplemd.storage.folder import RunFolder, complete_lines
from pplemd.tasks.evaluation import draw_teacher
from pplemd.tasks.teacher_training import ready_teacher

IN_RUN = "run_"  # what figures of samples under training are named by
FINITE = "run_finite"  # the share of samples that are finite: 1 in healthy runs
PANELS = 6  # figures drawn


def draw_curves(path: Path, folder: Path, found: dict[str, Any]) -> None:
    """Draw the in-run figures of each method over network evaluations, the band being all seeds.

    Args:
        path: the PNG file.
        folder: of the comparison.
        found: what compare.json holds.
    """
    panels: dict[str, list[Curve]] = defaultdict(list)
    for method, row in found["methods"].items():
        worth = row["forwards_per_step"] * row["batch"]
        for name, points in _points([folder / run["folder"] for run in row["by_seed"]]).items():
            steps = sorted(points)
            values = [np.array(points[step]) for step in steps]
            x = np.array(steps, float) * worth
            middle, low, high = (np.array([f(v) for v in values]) for f in (np.mean, np.min, np.max))
            panels[name].append(Curve(method, x, middle, low, high))
    shown = dict(list(panels.items())[:PANELS])
    if shown:
        save_png(path, curves(shown, "network evaluations"))


def _points(folders: list[Path]) -> dict[str, dict[int, list[float]]]:
    """In-run figures by name and step, a value for each run that has one."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for folder in folders:
        for line in complete_lines(RunFolder(folder).metrics):
            for name, value in line.items():
                if name.startswith(IN_RUN) and name != FINITE and value is not None:
                    found[name.removeprefix(IN_RUN)][line["step"]].append(value)
    return found


def draw_samples(path: Path, folder: Path, comparison: Any, found: dict[str, Any], reporter: AbstractReporter) -> None:
    """Draw the teacher's samples, and beside them each method's of the first seed, from the same noise.

    Args:
        path: the PNG file.
        folder: of the comparison.
        comparison: what is compared.
        found: what compare.json holds.
        reporter: shows how the teacher is got ready, where it has to be got ready.
    """
    teacher = folder / "teacher.png"
    if not teacher.is_file():
        _draw_teacher(teacher, comparison, reporter)
    titled = {"teacher": teacher}
    for method, row in found["methods"].items():
        drawn = RunFolder(folder / row["by_seed"][0]["folder"]).samples
        if drawn.is_file():
            titled[method] = drawn
    pictures = {}
    for title, file in titled.items():
        with Image.open(file) as picture:
            pictures[title] = picture.convert("RGB")
    save_png(path, montage(pictures))


def _draw_teacher(path: Path, comparison: Any, reporter: AbstractReporter) -> None:
    planned = declare(comparison.model, comparison.name, comparison.overrides, comparison.teacher).distillation.plan()
    count = 100 if len(planned.problem.output.shape) == 3 else 5000
    teacher = ready_teacher(planned.model.teacher, reporter)
    x = draw_teacher(teacher, planned.conditions, count=count).x
    save_png(path, draw(x, x.shape[1:]))
