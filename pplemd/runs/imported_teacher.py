"""Teachers that a user brings, without a model: imported into a folder, shown, sampled."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pplemd.conditions import Labels
from pplemd.errors import RecipeError
from pplemd.importers import (
    Checkpoint,
    build,
    convention,
    diffusers_ddim,
    notes,
    read_checkpoint,
    shapes,
    write_teacher_folder,
)
from pplemd.plotting.samples import draw, save_png
from pplemd.report.progress import AbstractReporter
from pplemd.storage.folder import finite
from pplemd.tasks.describing import parameters
from pplemd.tasks.results import in_single
from pplemd.teachers import AbstractDenoiser, DDIMSampler, HeunSampler, sample

CHUNK = 16  # images of one compiled call


@in_single
def show(path: Path) -> dict[str, Any]:
    """What a checkpoint is; its weights are not read.

    Keys: architecture, convention, notes (what was chosen or assumed), config, parameters, shape, classes, arrays,
    dtypes; of a teacher folder source and sha256 of what was imported.

    Raises:
        PplemdError: where it is refused.
    """
    found = read_checkpoint(path)
    teacher = shapes(found)
    return {
        "architecture": found.architecture,
        "convention": convention(found),
        "notes": list(notes(found)),
        "config": finite(dict(found.config)),
        "parameters": parameters(teacher),
        "shape": list(teacher.shape),
        "classes": teacher.classes,
        "arrays": len(found.arrays),
        "dtypes": sorted({str(array.dtype) for array in found.arrays.values()}),
        **found.facts,
    }


@in_single
def import_teacher(path: Path, out: Path) -> dict[str, Any]:
    """Read a checkpoint once, see that it is sound, and keep it as a teacher folder.

    Args:
        path: the checkpoint.
        out: the folder, which must not exist yet.

    Returns:
        What teacher.json says of it.

    Raises:
        PplemdError: where it is refused, or the folder cannot be written.
    """
    found = read_checkpoint(path)
    build(found)  # every array in its place, every number finite
    facts = {**show(path), "source": str(path.absolute()), "sha256": found.sha256()}
    kept = {name: value for name, value in facts.items() if name not in ("arrays", "dtypes")}
    write_teacher_folder(out, found, {**kept, "notes": list(found.notes)})  # what is assumed is seen again
    return facts


@dataclasses.dataclass(frozen=True)
class Grid:
    """What samples of a teacher to draw.

    Attributes:
        count: how many.
        label: a class for all of them; by default one after the other.
        steps: noise levels of Heun's method, or time steps of DDIM.
        seed: seed of everything random.
        ddim: whether to sample by DDIM on the network's own time steps, which a diffusers pipeline has.
    """

    count: int = 16
    label: int | None = None
    steps: int = 18
    seed: int = 0
    ddim: bool = False

    def sampler(self, checkpoint: Checkpoint) -> HeunSampler | DDIMSampler:
        """The method.

        Raises:
            RecipeError: where DDIM is wanted of a network that knows no time steps.
        """
        if not self.ddim:
            return HeunSampler(steps=self.steps)
        if checkpoint.architecture != "diffusers":
            raise RecipeError(
                f"DDIM goes by the time steps of a diffusers pipeline; found a network of the family "
                f"{checkpoint.architecture}. Leave --ddim out."
            )
        return diffusers_ddim(checkpoint.config, self.steps)

    def labels(self, teacher: AbstractDenoiser) -> np.ndarray | None:
        """The class of each sample.

        Raises:
            RecipeError: where the teacher has no such class.
        """
        if teacher.classes is None:
            if self.label is not None:
                raise RecipeError(f"found label {self.label}; this teacher has no classes: leave the label out.")
            return None
        if self.label is None:
            return np.asarray(Labels.uniform(teacher.classes).in_turn(self.count))
        if not 0 <= self.label < teacher.classes:
            raise RecipeError(f"found label {self.label}; this teacher has classes 0 to {teacher.classes - 1}.")
        return np.full(self.count, self.label, np.int32)


@in_single
def draw_grid(path: Path, picture: Path, grid: Grid, reporter: AbstractReporter) -> float:
    """Draw samples of a checkpoint into a picture.

    Args:
        path: the checkpoint.
        picture: the PNG file.
        grid: what to draw.
        reporter: shows how it goes.

    Returns:
        Seconds, compilation included.

    Raises:
        PplemdError: where the checkpoint is refused, it has no such class, or the picture cannot be written.
    """
    found = read_checkpoint(path)
    sampler, teacher = grid.sampler(found), build(found)
    labels, size, key = grid.labels(teacher), min(CHUNK, grid.count), jax.random.key(grid.seed)
    parts, began = [], time.perf_counter()
    with reporter.progress("sample", grid.count) as progress:
        for start in range(0, grid.count, size):
            chosen = None if labels is None else jnp.asarray(np.resize(labels[start : start + size], size))
            parts.append(np.asarray(sample(jax.random.fold_in(key, start), teacher, size, chosen, sampler)))
            progress.to(min(start + size, grid.count))
    save_png(picture, draw(np.concatenate(parts)[: grid.count], teacher.shape))
    return time.perf_counter() - began
