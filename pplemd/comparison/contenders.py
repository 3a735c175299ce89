"""What is compared: algorithms by name, with changes to the numbers of their own."""

import dataclasses
import re

from pplemd.algorithms import EMD, AbstractDistillation
from pplemd.errors import RecipeError
from pplemd.tasks.override import override

EMD_OF_LENGTH = re.compile(r"emd-(\d+)")


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What a contender's changes are tried on, so that a mistake in one shows at once."""

    algorithm: AbstractDistillation = EMD()


@dataclasses.dataclass(frozen=True)
class Contender:
    """One of the algorithms compared.

    Attributes:
        name: as it was asked for.
        overrides: what it changes of the model's numbers, `path=value`.
    """

    name: str
    overrides: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The name as that of a folder."""
        return re.sub(r"[^A-Za-z0-9.=+-]+", "-", self.name).strip("-")


def contenders(text: str) -> tuple[Contender, ...]:
    """The algorithms of a list such as `emd,emd-16,sid:algorithm.alpha=1,dmd:algorithm.anchor=none`.

    A name is an algorithm's (`emd`, `diff-instruct`, `dmd`, `sid`, `sim`, `consistency`); `emd-K` is EM distillation
    with chains of K steps; what follows colons changes its numbers alone.

    Raises:
        RecipeError: no name, one twice, an unknown one, or a change that is no `path=value`.
    """
    found = tuple(_contender(part.strip()) for part in text.split(",") if part.strip())
    if not found:
        raise RecipeError(
            "--algorithms needs at least one name, as in --algorithms emd,diff-instruct,dmd,sid; found none."
        )
    folders = [one.folder for one in found]
    twice = sorted({folder for folder in folders if folders.count(folder) > 1})
    if twice:
        raise RecipeError(f"--algorithms names {', '.join(twice)} twice; name each algorithm, with its changes, once.")
    return found


def _contender(text: str) -> Contender:
    name, *changes = text.split(":")
    length = EMD_OF_LENGTH.fullmatch(name.lower())
    own = ("algorithm=EMD", f"algorithm.chain.length={length[1]}") if length else (f"algorithm={name}",)
    override(Numbers(), own)  # says which names there are
    for change in changes:
        if "=" not in change:
            raise RecipeError(f"--algorithms {text}: {change!r} is no path=value, as in sid:algorithm.alpha=1.")
    return Contender(text, (*own, *changes))
