"""The start of a run: a model with its changes, and its folder, new or found again."""

from pathlib import Path

from pplemd.errors import RecipeError
from pplemd.fits import Fit
from pplemd.model import Model
from pplemd.runs import record
from pplemd.runs.declared import GIVEN, Declared, declare, declare_value
from pplemd.storage.folder import RunFolder
from pplemd.viewing.narration import AbstractNarrator

PARENT = Path("runs")  # of the run folders that are not named


def opened(
    model: Model | Fit | Path | str,
    out: Path | str | None,
    chosen: tuple[str | None, tuple[str, ...]],
    resume: bool,
    narrator: AbstractNarrator,
) -> tuple[Declared, RunFolder]:
    """The model and its run folder, new or found again.

    Args:
        model: a model or a fit, or the path of a file that declares one.
        out: the run folder; by default a new one, or the newest where the run is resumed.
        chosen: which value of the file, where it holds several, and the changes to its recipe.
        resume: whether to go on.
        narrator: told where there is nothing to go on with.

    Raises:
        PplemdError: where model, recipe or folder cannot be used.
    """
    named = None if out is None else RunFolder(out)
    if named is not None and resume and not named.config.exists():
        narrator.say(f"{named.path} holds no run yet; starting one.")
        return _declared(model, *chosen), named
    if not resume:
        declared = _declared(model, *chosen)
        folder = named or record.new_folder(declared, PARENT)
        if folder.config.exists():
            record.begin(declared, folder)  # says that the folder is taken
        return declared, folder
    asked = tuple(one for one in chosen[1] if one.startswith(GIVEN))
    folder = named or record.newest_folder(_declared(model, chosen[0], asked), PARENT)
    return _again(model, chosen, folder, narrator), folder


def _declared(model: Model | Fit | Path | str, name: str | None, overrides: tuple[str, ...] = ()) -> Declared:
    if isinstance(model, Model | Fit):
        return declare_value(model, overrides)
    return declare(Path(model), name, overrides)


def _again(
    model: Model | Fit | Path | str,
    chosen: tuple[str | None, tuple[str, ...]],
    folder: RunFolder,
    narrator: AbstractNarrator,
) -> Declared:
    """The model of a run that is resumed: the same, with the same changes."""
    name, overrides = chosen
    known = record.started_from(folder)
    if set(overrides) - set(known.overrides):
        raise RecipeError(
            f"a run that is resumed keeps its recipe; {folder.path} was started with "
            f"{', '.join(known.overrides) or 'no changes'}, and {', '.join(overrides)} was asked for. "
            "Leave --set, --steps and --seed out, or start a new run with another --out."
        )
    declared = _declared(model, name or (None if isinstance(model, Model | Fit) else known.name), known.overrides)
    record.check_same(declared, folder, narrator.say)
    return declared
