"""Judging a run: by its model's evaluation, or by features and data that are given instead."""

import dataclasses
from pathlib import Path

from pplemd.data import npz
from pplemd.devices import first
from pplemd.errors import RecipeError
from pplemd.importers.feature_networks import features
from pplemd.metrics import AbstractEvaluation, ImageEvaluation
from pplemd.report.reporter import AbstractNarrator
from pplemd.runs import loading
from pplemd.runs.afterwards import saved_in
from pplemd.storage.folder import RunFolder, write_json
from pplemd.tasks.distillation import Distilled
from pplemd.tasks.evaluation import Report, evaluate
from pplemd.tasks.teacher_training import ready_teacher
from pplemd.teachers import AbstractTeacher


@dataclasses.dataclass(frozen=True)
class Otherwise:
    """What a run is judged by in place of what its model says.

    Attributes:
        features: the weights of a classifier, as `em.features` reads them.
        data: images, as `em.data.npz` reads them.
    """

    features: Path | None = None
    data: Path | None = None

    def evaluation(self, declared: AbstractEvaluation | None) -> AbstractEvaluation | None:
        """The model's evaluation with these in place of its own.

        Raises:
            RecipeError: features without images to compare with.
            ImporterError: features that cannot be read.
            DataError: data that cannot be read.
        """
        chosen = declared
        if self.data is not None:
            images = npz(self.data)
            if isinstance(declared, ImageEvaluation):
                chosen = dataclasses.replace(declared, dataset=images)
            else:
                chosen = ImageEvaluation(images)
        if self.features is None:
            return chosen
        if not isinstance(chosen, ImageEvaluation):
            raise RecipeError(
                f"--features {self.features}: this model has no images that features could compare its samples with. "
                "Give some by --data FILE.npz, or declare evaluation=em.metrics.ImageEvaluation(data) in the model."
            )
        return dataclasses.replace(chosen, features=features(self.features))

    def file(self, folder: RunFolder) -> Path:
        """Where figures are kept: evaluation.json, or beside it evaluation-NAME.json, NAME those of the files given."""
        given = [path.stem for path in (self.features, self.data) if path is not None]
        return folder.path / f"{'-'.join([folder.evaluation.stem, *given])}.json"

    def refuse_fit(self) -> None:
        """See that nothing is given that a fit has no use for.

        Raises:
            RecipeError: where something is.
        """
        if self != Otherwise():
            raise RecipeError("a fit is judged by its likelihood and its chains. Leave --features and --data out.")


def judged(
    distilled: Distilled,
    teacher: AbstractTeacher,
    evaluation: AbstractEvaluation | None,
    file: Path,
    seed: int,
    narrator: AbstractNarrator,
    known: Report | None = None,
) -> Report:
    """Judge a generator beside its teacher, and keep the figures.

    Args:
        distilled: the generator.
        teacher: its teacher.
        evaluation: what to measure; by default distances from other draws of the teacher.
        file: where the figures are kept.
        seed: seed of the samples.
        narrator: told how it goes.
        known: a report that holds the teacher's figures already, or None.
    """
    with narrator.task("judge", 1.0) as task:
        report = evaluate(distilled, teacher, evaluation, seed, task.to, known, task.phase)
    if first():
        write_json(file, dataclasses.asdict(report))
    return report


def judge(
    loaded: loading.Loaded,
    folder: RunFolder,
    seed: int,
    narrator: AbstractNarrator,
    otherwise: Otherwise = Otherwise(),
) -> Report:
    """Judge a run's newest checkpoint, and keep the figures in its folder.

    Args:
        loaded: what was read from the run.
        folder: the run.
        seed: seed of the samples.
        narrator: told how it goes.
        otherwise: what to judge by in place of what the model says.
    """
    model = loaded.plan.model
    evaluation = otherwise.evaluation(model.evaluation)
    with saved_in(folder.path):
        teacher = ready_teacher(model.teacher, narrator)
        return judged(loaded.distilled, teacher, evaluation, otherwise.file(folder), seed, narrator)
