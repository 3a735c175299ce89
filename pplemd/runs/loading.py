"""Runs read back from their folders: what the newest checkpoint has learned."""

import dataclasses
from pathlib import Path

from jaxtyping import PyTree

from pplemd.errors import CheckpointError
from pplemd.learning import TrainState
from pplemd.runs.declared import Declared
from pplemd.runs.record import Say, declared_again, noted_changes
from pplemd.storage.checkpoints import Checkpoints
from pplemd.storage.folder import RunFolder
from pplemd.tasks.base import AbstractPlan, Work


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A run read back from its folder.

    Attributes:
        declared: its task.
        plan: the traced task.
        result: what it has learned, of the newest checkpoint.
        step: the step of that checkpoint.
        state: the training state in it.
    """

    declared: Declared
    plan: AbstractPlan
    result: PyTree
    step: int
    state: TrainState


def load(folder: RunFolder, model_file: Path | None, say: Say) -> Loaded:
    """Read a run back; its teacher is not needed, and not trained.

    Raises:
        PplemdError: where the run has no checkpoint that can be read; its notes say what has changed meanwhile.
    """
    with noted_changes(folder, model_file):
        declared = declared_again(folder, model_file, say)
        plan = declared.task.plan()
        shapes, found = plan.shapes_of(Work.window), None
        if folder.checkpoints.is_dir():
            checkpoints = Checkpoints(folder.checkpoints, read_only=True)
            try:
                found = checkpoints.latest(shapes, say)
            finally:
                checkpoints.close()
        if found is None:
            raise CheckpointError(f"{folder.path} has no checkpoint yet. Go on with it by --resume.")
        step, window = found
        return Loaded(declared, plan, plan.result(window.state), step, window.state)
