"""Getting a teacher ready, with a progress bar where it has to be trained."""

from typing import Any

from pplemd_cli.progress import bar, say


def taught(teacher: Any) -> Any:
    """A ready teacher: as it is, from the cache, or trained now."""
    from pplemd import distil
    from pplemd.learning import Taught, Watcher

    if not isinstance(teacher, Taught):
        return teacher
    with bar("teacher", teacher.recipe.steps) as progress:
        watcher = Watcher(
            advance=progress.to, report=lambda step, figures: progress.show(figures, ("loss",)), note=say
        )
        ready = distil.ready_teacher(teacher, watcher)
        progress.to(teacher.recipe.steps)
    return ready
