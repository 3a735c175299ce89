"""A teacher that a model file declares and its user brings: a checkpoint by its path."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx

from pplemd.errors import TeacherError
from pplemd.importers.families import Checkpoint, build, convention, notes, outline, shapes
from pplemd.importers.reading import read_checkpoint
from pplemd.teachers import AbstractDenoiser


@dataclasses.dataclass(frozen=True)
class Imported:
    """A teacher that is declared, and needs a path.

    Attributes:
        hint: where such checkpoints come from.
        then: what is made of the teacher, such as its guidance; by default the teacher itself.
        architecture: the family of the network that is expected, or None for any.
        config: its configuration, which shows the plan before there is a checkpoint; in the words of its own library.
        path: the checkpoint, or None where it is still to be given.
    """

    hint: str
    then: Callable[[AbstractDenoiser], AbstractDenoiser] | None = None
    architecture: str | None = None
    config: Mapping[str, Any] | None = None
    path: Path | None = None

    def at(self, path: Path | str) -> "Imported":
        """The same declaration with its checkpoint."""
        return dataclasses.replace(self, path=Path(path))

    def checkpoint(self) -> Checkpoint:
        """What is at the path.

        Raises:
            TeacherError: where there is no path yet, or another family of networks is there.
            ImporterError: where it cannot be read, or is refused.
        """
        if self.path is None:
            raise TeacherError(
                f"this model's teacher is a checkpoint that you bring: {self.hint.rstrip('.')}. Give its path: "
                "--teacher PATH."
            )
        found = read_checkpoint(self.path)
        if self.architecture not in (None, found.architecture):
            raise TeacherError(
                f"{self.path} is of the family {found.architecture}; this model expects {self.architecture}: "
                f"{self.hint.rstrip('.')}."
            )
        return found

    def described(self) -> dict[str, Any]:
        """What is to be said of the checkpoint: its convention, and what was chosen or assumed, a sentence each.

        Keys: convention, notes; none where there is no path yet.

        Raises:
            ImporterError: where it is refused.
        """
        if self.path is None:
            return {}
        found = self.checkpoint()
        return {"convention": convention(found), "notes": list(notes(found))}

    def shapes(self) -> AbstractDenoiser:
        """The teacher, of shapes alone: of the checkpoint, or of the configuration where there is none yet.

        Raises:
            TeacherError: where there is neither.
            ImporterError: where the checkpoint is refused.
        """
        if self.path is None and self.architecture is not None and self.config is not None:
            return self._finished(outline(self.architecture, self.config), abstract=True)
        return self._finished(shapes(self.checkpoint()), abstract=True)

    def ready(self) -> AbstractDenoiser:
        """The teacher with its weights.

        Raises:
            TeacherError: where there is no path yet.
            ImporterError: where the checkpoint is refused.
        """
        return self._finished(build(self.checkpoint()), abstract=False)

    def _finished(self, teacher: AbstractDenoiser, abstract: bool) -> AbstractDenoiser:
        if self.then is None:
            return teacher
        return eqx.filter_eval_shape(self.then, teacher) if abstract else self.then(teacher)


def imported(
    hint: str,
    then: Callable[[AbstractDenoiser], AbstractDenoiser] | None = None,
    *,
    architecture: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> Imported:
    """Declare a teacher that the user brings: a checkpoint, its path given by `--teacher PATH`.

    Args:
        hint: where such checkpoints come from; part of the message where no path is given.
        then: what to make of the teacher, for example `lambda teacher: guided(teacher)`.
        architecture: the family that is expected: diffusers, edm or pixel_transformer.
        config: its configuration in the words of its own library, to show the plan (`--dry-run`) without a checkpoint.
    """
    return Imported(hint, then, architecture, config)
