"""Runs read back from their folders: a generator or a fitted program, of the newest checkpoint."""

import dataclasses
from pathlib import Path
from typing import Any

from pplemd.errors import CheckpointError
from pplemd.learning import EMState, Window
from pplemd.runs.changes import told
from pplemd.runs.declared import Declared
from pplemd.runs.record import Say, declared_again
from pplemd.storage.checkpoints import Checkpoints
from pplemd.storage.folder import RunFolder
from pplemd.tasks.distillation import Distilled, distilled, first_shapes
from pplemd.tasks.fits import FitPlan, plan_fit
from pplemd.tasks.fitting import Fitted, first_fit_shapes, fitted
from pplemd.tasks.model import Model, Plan, plan


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A run read back from its folder.

    Attributes:
        declared: its model.
        plan: the traced model.
        distilled: its generator, of the newest checkpoint.
        step: the step of that checkpoint.
        state: the training state in it.
    """

    declared: Declared
    plan: Plan
    distilled: Distilled
    step: int
    state: EMState


@dataclasses.dataclass(frozen=True)
class LoadedFit:
    """A fit read back from its folder.

    Attributes:
        declared: its fit.
        plan: the traced fit.
        fitted: its program, of the newest checkpoint.
        step: the step of that checkpoint.
    """

    declared: Declared
    plan: FitPlan
    fitted: Fitted
    step: int


def load_any(folder: RunFolder, model_file: Path | None, say: Say) -> Loaded | LoadedFit:
    """Read a run back, a distillation or a fit.

    Raises:
        PplemdError: where the run has no checkpoint that can be read; its notes say what has changed meanwhile.
    """
    with told(folder, model_file):
        return _load_any(folder, model_file, say)


def _load_any(folder: RunFolder, model_file: Path | None, say: Say) -> Loaded | LoadedFit:
    declared = declared_again(folder, model_file, say)
    if isinstance(declared.model, Model):
        return _loaded(declared, folder, say)
    planned = plan_fit(declared.fit)
    step, state = _newest(folder, first_fit_shapes(planned), say)
    return LoadedFit(declared, planned, fitted(planned, state), step)


def _loaded(declared: Declared, folder: RunFolder, say: Say) -> Loaded:
    """A distillation; the teacher is not needed, and not trained."""
    planned = plan(declared.distilled_model)
    step, state = _newest(folder, first_shapes(planned), say)
    return Loaded(declared, planned, distilled(planned, state), step, state)


def _newest(folder: RunFolder, shapes: Window, say: Say) -> tuple[int, Any]:
    found = None
    if folder.checkpoints.is_dir():
        checkpoints = Checkpoints(folder.checkpoints, read_only=True)
        try:
            found = checkpoints.latest(shapes, say)
        finally:
            checkpoints.close()
    if found is None:
        raise CheckpointError(f"{folder.path} has no checkpoint yet. Go on with it by --resume.")
    return found[0], found[1].state
