"""Where the network lies in a file: in which of its dictionaries, behind which prefix of names, averaged or not.

A training checkpoint holds a network once as it is trained and once as an average, beside optimisers and counters; and
what wrapped it (DataParallel, torch.compile, Lightning) has put its own name before every array's.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import numpy as np

from pplemd.errors import ImporterError

StateDicts = Mapping[str, Mapping[str, np.ndarray]]  # arrays by name, by the place of their dictionary; "" is the file

AVERAGED = re.compile(r"(?<![a-zA-Z])(?:emas?|swa|avg|averaged?|shadow)(?![a-z])|EMA|Ema(?![a-z])")
USUAL = ("state_dict", "model_state_dict", "model", "module", "net", "network", "unet", "weights", "params")
ALONGSIDE = re.compile(r"(?i)optim|^opt(\.|_|$)|sched|scaler")  # what a training keeps beside its networks
MOST_PLACES = 64  # of one kind of network in a file
MOST_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a network's arrays lie.

    Attributes:
        inside: the place of their dictionary.
        prefix: what stands before each name there.
    """

    inside: str
    prefix: str

    @property
    def averaged(self) -> int:
        """How many of its names say that it is an average: of two, the one that says so more often is."""
        return len(AVERAGED.findall(f"{self.inside}.{self.prefix}"))

    @property
    def shown(self) -> str:
        """Its name, for people."""
        parts = [part for part in (self.inside, self.prefix.rstrip(".")) if part]
        return ascii(".".join(parts) or "the file itself")[1:-1][:80]


def places(found: StateDicts, anchors: Sequence[str]) -> list[Place]:
    """Every place at which a network lies.

    Args:
        found: the arrays.
        anchors: names that every network of its kind has.
    """
    first, *others = anchors
    seen = []
    for inside, arrays in found.items():
        for name in arrays:
            prefix = name.removesuffix(first)
            whole = name.endswith(first) and (not prefix or prefix.endswith("."))
            if whole and all(prefix + other in arrays for other in others):
                seen.append(Place(inside, prefix))
    return seen


def network_at(found: StateDicts, anchors: Sequence[str], owner: str) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The arrays of the network, by its own names, and what is to be said of how they were found.

    Args:
        found: the arrays of a file.
        anchors: names that every network of its kind has.
        owner: what the network is, in a message.

    Raises:
        ImporterError: where it lies at several places that nothing tells apart, or at none of several, or where arrays
            of other layers lie beside it.
    """
    seen = places(found, anchors)
    if not seen:
        if len(found) > 1 or "" not in found:
            raise ImporterError(
                f"its tensors lie under {_listed(found)}; none of these holds {anchors[0]}, as {owner} does. Save the "
                'state dict of the network alone: torch.save(checkpoint["..."], PATH).'
            )
        return dict(found[""]), ()
    best = _most_averaged(seen)
    if len(best) > 1 or len(seen) > MOST_PLACES:
        raise _several(best if len(best) > 1 else seen)
    place = best[0]
    arrays = found[place.inside]
    if place.prefix:
        _check_outside(arrays, place, seen, owner)
    inside = {name.removeprefix(place.prefix): item for name, item in arrays.items() if name.startswith(place.prefix)}
    note = _note(found, place, seen)
    return inside, () if note is None else (note,)


def only_one(found: StateDicts) -> tuple[dict[str, np.ndarray], str | None]:
    """The arrays of the one state dict, whatever network it is of, and what is to be said of the choice.

    Raises:
        ImporterError: where there are several that nothing tells apart.
    """
    whole = [place for place, arrays in found.items() if not _is_list(arrays) and any(map(np.ndim, arrays.values()))]
    kept = [Place(place, "") for place in whole if not ALONGSIDE.search(place)] or [Place(place, "") for place in found]
    best = _most_averaged(kept)
    usual = [place for place in best if place.inside.split(".")[-1] in USUAL]
    if len(best) > 1 and len(usual) != 1:
        raise _several(best)
    place = best[0] if len(best) == 1 else usual[0]
    return dict(found[place.inside]), _note(found, place, kept) if len(kept) > 1 else None


def with_names(found: StateDicts) -> StateDicts:
    """The same, the averages that are lists (`shadow_params`) named as the one network of such shapes is.

    A state dict has its parameters in the order in which its module lists them.
    """
    by_shapes: dict[tuple[tuple[int, ...], ...], set[tuple[str, ...]]] = {}
    for arrays in found.values():
        if not _is_list(arrays):
            by_shapes.setdefault(_shapes(arrays), set()).add(tuple(arrays))
    named = dict(found)
    for place, arrays in found.items():
        names = by_shapes.get(_shapes(arrays), set()) if _is_list(arrays) and AVERAGED.search(place) else set()
        if len(names) == 1:
            named[place] = dict(zip(next(iter(names)), arrays.values(), strict=True))
    return named


def _is_list(arrays: Mapping[str, np.ndarray]) -> bool:
    return list(arrays) == [str(number) for number in range(len(arrays))]


def _shapes(arrays: Mapping[str, np.ndarray]) -> tuple[tuple[int, ...], ...]:
    return tuple(array.shape for array in arrays.values())


def _most_averaged(seen: Sequence[Place]) -> list[Place]:
    most = max(place.averaged for place in seen)
    return [place for place in seen if place.averaged == most]


def _several(best: Sequence[Place]) -> ImporterError:
    shown = ", ".join(place.shown for place in best[:MOST_SHOWN]) + (", ..." if len(best) > MOST_SHOWN else "")
    return ImporterError(
        f"it holds {len(best)} networks that nothing tells apart, under {shown}; expected one, or one that is named as "
        'an average (ema). Save the state dict that you mean alone: torch.save(checkpoint["..."], PATH).'
    )


def _check_outside(arrays: Mapping[str, np.ndarray], place: Place, seen: Sequence[Place], owner: str) -> None:
    """See that no other layers lie beside a network: vectors alone, as counters and schedules, or copies of it.

    Raises:
        ImporterError: where others do.
    """
    copies = tuple(one.prefix for one in seen if one.inside == place.inside)
    others = [name for name, array in arrays.items() if not name.startswith(copies) and array.ndim > 1]
    if others:
        raise ImporterError(
            f"beside the arrays under {place.shown}, which are those of {owner}, lie {_listed(others)}; expected the "
            "arrays of the network alone. It is a part of a larger network: wrap that in em.teachers.DenoiserFunction, "
            'as docs/teachers.md, "Any PyTorch module", shows.'
        )


def _note(found: StateDicts, place: Place, seen: Sequence[Place]) -> str | None:
    """What is said of a choice of place."""
    if place == Place("", ""):
        return None
    averaged = "averaged weights" if place.averaged else "weights"
    taken = f', "{ascii(place.prefix)[1:-1][:60]}" taken off their names' if place.prefix else ""
    copies = tuple(one.prefix for one in seen if one.inside == place.inside)
    others = [one.shown for one in seen if one != place]
    others += [name for name in found[place.inside] if not name.startswith(copies)]
    others += [name for name in found if all(one.inside != name for one in seen)]
    further = f"; not read was what lies beside them: {_listed(others)}" if others else ""
    return f"the {averaged} under {place.shown} were read{taken}{further}"


def _listed(names: Mapping[str, object] | Sequence[str]) -> str:
    shown = [ascii(name)[1:-1][:60] or "the file itself" for name in list(names)[:MOST_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else "")
