"""What is compared: methods by name, with changes to the recipe of their own."""

import dataclasses
import re

from pplemd.errors import RecipeError
from pplemd.learning import Recipe
from pplemd.tasks.override import override

EMD_OF_LENGTH = re.compile(r"emd-(\d+)")


@dataclasses.dataclass(frozen=True)
class Contender:
    """One of the methods compared.

    Attributes:
        name: as it was asked for.
        overrides: what it changes of the model's recipe, `path=value`.
    """

    name: str
    overrides: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name as that of a folder."""
        return re.sub(r"[^A-Za-z0-9.=+-]+", "-", self.name).strip("-")


def contenders(text: str) -> tuple[Contender, ...]:
    """The methods of a list such as `emd,emd-16,sid:method.alpha=1,dmd:anchor=none`.

    A name is a method's (`emd`, `diff-instruct`, `dmd`, `sid`, `sim`, `consistency`); `emd-K` is EM distillation with
    chains of K steps; what follows colons changes the recipe for it alone.

    Raises:
        RecipeError: no name, one twice, an unknown one, or a change that is no `path=value`.
    """
    found = tuple(_contender(part.strip()) for part in text.split(",") if part.strip())
    if not found:
        raise RecipeError("--methods needs at least one name, as in --methods emd,diff-instruct,dmd,sid; found none.")
    folders = [one.folder for one in found]
    twice = sorted({folder for folder in folders if folders.count(folder) > 1})
    if twice:
        raise RecipeError(f"--methods names {', '.join(twice)} twice; name each method, with its changes, once.")
    return found


def _contender(text: str) -> Contender:
    name, *changes = text.split(":")
    length = EMD_OF_LENGTH.fullmatch(name.lower())
    own = ("method=EMD", f"chain.length={length[1]}") if length else (f"method={name}",)
    override(Recipe(), own)  # says which names there are
    for change in changes:
        if "=" not in change:
            raise RecipeError(f"--methods {text}: {change!r} is no path=value, as in sid:method.alpha=1.")
    return Contender(text, (*own, *changes))
