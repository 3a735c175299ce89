"""Numbers of a task as data: written to config.json, changed field by field from the command line, types checked."""

import dataclasses
import difflib
import inspect
import math
import numbers
import types
import typing
from typing import Any, TypeVar

import equinox as eqx

from pplemd.errors import RecipeError
from pplemd.learning import AbstractAlgorithm

RecordT = TypeVar("RecordT")
MOVED = {  # paths of earlier versions
    "steps": "training.steps",
    "batch": "training.batch",
    "seed": "training.seed",
    "log_every": "training.log_every",
    "sample_every": "training.sample_every",
    "checkpoint_every": "training.checkpoint_every",
    "patience": "training.patience",
    "compute.bf16": "training.precision.bf16",
    "compute.rematerialise": "training.precision.rematerialise",
    "compute.accumulate": "training.microbatches",
    "rows": "training.batch, with algorithm.minibatches=true",
    "ema": "algorithm.average",
    "method": "algorithm",
    "frozen": "algorithm.move_latents, its opposite",
    "choosing": "algorithm.reparameterization",
    "score_updates": "algorithm.score.count",
    "judging": "diagnostics",
}
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def as_data(value: Any) -> Any:
    """A record as plain JSON data: records become dictionaries with their type's name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: as_data(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, tuple | list):
        return [as_data(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_data(item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    described = getattr(value, "__qualname__", repr(value))
    return type(value).__name__ if " at 0x" in described else described  # an address is another in every process


def check_fields(record: Any, place: str) -> None:
    """See that each field of a record, and of the records in it, is of its declared type.

    Args:
        record: such as a training, or an algorithm.
        place: what it is called in the message.

    Raises:
        RecipeError: where one is not.
    """
    hints = typing.get_type_hints(type(record))
    for field in dataclasses.fields(record):
        value, hint = getattr(record, field.name), hints[field.name]
        path = f"{place}.{field.name}"
        if not _fits(value, hint):
            wanted = getattr(hint, "__name__", str(hint)).removeprefix("Abstract")
            raise RecipeError(f"{path} is {value!r} ({type(value).__name__}); expected a value of type {wanted}.")
        if isinstance(value, eqx.Module):
            check_fields(value, path)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a declared type; types that are more than a class, as those of arrays, are not judged."""
    options = [option for option in (typing.get_args(hint) or (hint,)) if typing.get_origin(hint) is not tuple]
    if not options or not all(isinstance(option, type) and option.__module__ != "jaxtyping" for option in options):
        return True
    if isinstance(value, bool):
        return bool in options
    numeric = (float in options and isinstance(value, numbers.Real)) or (
        int in options and isinstance(value, numbers.Integral)
    )
    return numeric or isinstance(value, tuple(options))


def override(record: RecordT, assignments: list[str] | tuple[str, ...]) -> RecordT:
    """A record with some of its fields replaced.

    A field whose type allows None may be set to none, and one that is None to what its type allows; a field of a record
    that is not there is set in that record as it is by default.

    Args:
        record: any record, such as a task.
        assignments: texts `path=value`, the path dotted: `training.steps=500`.

    Raises:
        RecipeError: where a path does not exist or a value is not of the field's type.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        whole = path.strip()
        if not equals or not whole:
            raise RecipeError(f"--set needs path=value, as in `--set training.steps=500`; found {assignment!r}.")
        record = _replace(record, whole.split("."), text.strip(), whole)
    return record


@dataclasses.dataclass(frozen=True)
class _Slot:
    """A field of a record, as one that may be set.

    Attributes:
        path: the whole path to it, for messages.
        value: what it is now.
        types: what it may be, by its declared type.
        optional: whether it may be None.
    """

    path: str
    value: Any
    types: tuple[Any, ...]
    optional: bool

    @property
    def kinds(self) -> dict[str, type]:
        """The final classes that it may be of, by the letters of their names."""
        # final classes of declared types, by the letters of their names, so that a record may be given by name
        waiting = [option for option in self.types if isinstance(option, type) and issubclass(option, eqx.Module)]
        found: dict[str, type] = {}
        while waiting:
            kind = waiting.pop()
            waiting.extend(kind.__subclasses__())
            if not inspect.isabstract(kind) and not kind.__name__.startswith("Abstract"):
                found[_letters(kind.__name__)] = kind
        return found

    @property
    def like(self) -> Any:
        """A value of the type that a text is to be read as; None where no text is."""
        if self.value is not None:
            return self.value
        # a type that is no class is that of a kernel's step size, which is a number where it is not adapted
        numbers_of = [kind for kind in self.types if kind in (bool, int, float)] or [float] * (not self._classes)
        return numbers_of[0]() if numbers_of else None

    @property
    def _classes(self) -> bool:
        return all(isinstance(kind, type) and kind.__module__ != "jaxtyping" for kind in self.types)

    @property
    def expected(self) -> str:
        """What it may hold, in words."""
        words = {bool: "true or false", int: "an integer", float: "a number"}
        named = [words[type(self.like)]] if type(self.like) in words else []
        names = sorted(kind.__name__ for kind in self.kinds.values())
        named += [f"a kind by its name ({', '.join(names)})"] if names else []
        return " or ".join([*named, *(["none"] if self.optional else [])])


def _slot(record: Any, name: str, path: str) -> _Slot:
    hint = typing.get_type_hints(type(record))[name]
    field = next(field for field in dataclasses.fields(record) if field.name == name)
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    kinds = tuple(option for option in options if option is not type(None))
    return _Slot(path, getattr(record, name), kinds, type(None) in options or field.default is None)


def _replace(record: Any, path: list[str], text: str, whole: str) -> Any:
    names = [field.name for field in dataclasses.fields(record)] if dataclasses.is_dataclass(record) else []
    before = whole.removesuffix(".".join(path))
    if path[0] not in names:
        known = f"its fields are {', '.join(names)}" if names else "it has no fields"
        raise RecipeError(
            f"--set {whole}: {type(record).__name__} has no field {path[0]!r}; {known}.{_nearest(record, path, before)}"
        )
    slot = _slot(record, path[0], before + path[0])
    if len(path) > 1:
        new = _replace(_there(slot, whole), path[1:], text, whole)
    elif text.lower() == "none" and slot.optional:
        new = None
    elif _letters(text) in slot.kinds:
        new = _of_kind(slot.kinds[_letters(text)], slot.value, text, whole)
    else:
        new = _parse(slot, text)
    return dataclasses.replace(record, **{path[0]: new})


def _there(slot: _Slot, whole: str) -> Any:
    """What a field holds, of which a field is to be set; the record that it is by default where it holds None."""
    if slot.value is not None:
        return slot.value
    if len(slot.kinds) == 1:
        (kind,) = slot.kinds.values()
        return _named(kind, kind.__name__, slot.path)
    raise RecipeError(
        f"--set {whole}: {slot.path} is none, which has no fields; it may hold {slot.expected}. Set {slot.path} first."
    )


def _nearest(record: Any, path: list[str], before: str) -> str:
    """A question with the paths that may have been meant; empty where none is near."""
    below = _paths(record) if dataclasses.is_dataclass(record) else []
    whole = before + ".".join(path)
    moved = next((new + whole[len(old) :] for old, new in MOVED.items() if f"{whole}.".startswith(f"{old}.")), None)
    if moved is not None:
        return f" It is {moved} now (docs/changelog.md)."
    own = [one for one in below if "." not in one]
    near = difflib.get_close_matches(path[0], own, 3)
    last = {one: one.rpartition(".")[2] for one in below}
    alike = [one for one in below if difflib.SequenceMatcher(None, path[0], last[one]).ratio() > 0.85]
    least = min((one.count(".") for one in alike), default=0)
    near = near or [one for one in alike if one.count(".") <= least + 1]  # not numbers of what is deep inside
    named = [".".join([before + one, *path[1:]]) for one in near]
    return f" Did you mean {' or '.join(named[:3])}?" if named else ""


def _paths(record: Any) -> list[str]:
    """The dotted paths of all fields of a record, and of the records in it."""
    found = []
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        found.append(field.name)
        if isinstance(value, eqx.Module):
            found += [f"{field.name}.{below}" for below in _paths(value)]
    return found


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _of_kind(kind: type, value: Any, text: str, whole: str) -> Any:
    """A record of a kind in the place of another; an algorithm keeps the numbers that both have."""
    if issubclass(kind, AbstractAlgorithm) and isinstance(value, AbstractAlgorithm):
        return kind.following(value)
    return _named(kind, text, whole)


def _named(kind: type, text: str, whole: str) -> Any:
    """A record of a kind, all its fields as they are by default."""
    try:
        return kind()
    except TypeError:
        needed = [
            field.name
            for field in dataclasses.fields(kind)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        raise RecipeError(
            f"--set {whole}={text}: a {kind.__name__} has no default {' and '.join(needed)}; edit the model file."
        ) from None


def _parse(slot: _Slot, text: str) -> Any:
    """A text as a value of the type that a field holds, or may hold."""
    like, whole = slot.like, slot.path
    try:
        if isinstance(like, bool):
            return _WORDS[text.lower()]
        if isinstance(like, int):
            return _integer(text)
        if isinstance(like, float):
            return _number(text)
        if isinstance(like, tuple) and like and all(isinstance(item, float | int) for item in like):
            count = len(like)
            values = tuple(_number(part) for part in text.strip("() ").split(","))
            if len(values) != count:
                raise ValueError(text)
            return values
    except (KeyError, ValueError):
        or_none = " or none" if slot.optional else ""
        wanted = slot.expected if slot.value is None else f"a value like {like!r} ({type(like).__name__}){or_none}"
        raise RecipeError(f"--set {whole}={text}: expected {wanted}.") from None
    if isinstance(like, eqx.Module):
        # the message where a record is given a text that is none of its kinds
        inner = ", ".join(f"{slot.path}.{field.name}" for field in dataclasses.fields(slot.value))
        kinds = sorted(kind.__name__ for kind in slot.kinds.values())
        near = [slot.kinds[one].__name__ for one in difflib.get_close_matches(_letters(text), slot.kinds, 1, 0.7)]
        meant = f" Did you mean {slot.path}={near[0]}?" if near else ""
        another = f" Or name another kind: {', '.join(kinds)}.{meant}" if len(kinds) > 1 else ""
        kind = type(slot.value).__name__
        raise RecipeError(f"--set {slot.path}: this is a {kind}; set one of its fields: {inner or 'none'}.{another}")
    if slot.expected not in ("", "none"):
        raise RecipeError(f"--set {whole}: {text!r} cannot be set from the command line; expected {slot.expected}.")
    raise RecipeError(
        f"--set {whole}: a {type(like).__name__} cannot be set from the command line; edit the model file."
    )


def _integer(text: str) -> int:
    """An integer, also written 1e4 or 10_000."""
    try:
        return int(text)
    except ValueError:
        value = _number(text)
        if value != int(value):
            raise
        return int(value)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
