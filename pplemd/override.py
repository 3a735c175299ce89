"""Recipes as data: written to config.json, changed field by field from the command line, their types checked."""

import dataclasses
import math
import numbers
import typing
from typing import Any

import equinox as eqx

from pplemd.errors import RecipeError

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def as_data(value: Any) -> Any:
    """A recipe as plain JSON data: records become dictionaries with their type's name."""
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
    """See that each field of a recipe, and of the records in it, is of its declared type.

    Args:
        record: the recipe.
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


def override(recipe: Any, assignments: list[str] | tuple[str, ...]) -> Any:
    """A recipe with some of its fields replaced.

    Args:
        recipe: any record, such as a Recipe.
        assignments: texts `path=value`, the path dotted: `steps=500`, `generator.learning_rate=1e-4`.

    Raises:
        RecipeError: where a path does not exist or a value is not of the field's type.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            raise RecipeError(f"--set needs path=value, as in `--set steps=500`; found {assignment!r}.")
        recipe = _replace(recipe, path.strip().split("."), text.strip(), path.strip())
    return recipe


def _replace(record: Any, path: list[str], text: str, whole: str) -> Any:
    names = [field.name for field in dataclasses.fields(record)] if dataclasses.is_dataclass(record) else []
    if path[0] not in names:
        known = f"its fields are {', '.join(names)}" if names else "it has no fields"
        raise RecipeError(f"--set {whole}: {type(record).__name__} has no field {path[0]!r}; {known}.")
    old, hint = getattr(record, path[0]), typing.get_type_hints(type(record))[path[0]]
    kinds, options = _kinds(hint), typing.get_args(hint)
    if len(path) > 1:
        new = _replace(old, path[1:], text, whole)
    elif text.lower() == "none" and type(None) in options:
        new = None
    elif _letters(text) in kinds:
        new = _named(kinds[_letters(text)], text, whole)
    else:
        like = _example(options) if old is None else old
        new = _parse(like, text, whole, tuple(kind.__name__ for kind in kinds.values()))
    return dataclasses.replace(record, **{path[0]: new})


def _example(options: tuple[Any, ...]) -> int | float | None:
    """A number of the first numeric type that a field may have; None where it may have none."""
    return next((option() for option in options if option in (int, float)), None)


def _kinds(hint: Any) -> dict[str, type]:
    """Final classes below a declared type, by the letters of their names, so that a record may be replaced by name."""
    options = typing.get_args(hint) or (hint,)
    waiting = [option for option in options if isinstance(option, type) and issubclass(option, eqx.Module)]
    found: dict[str, type] = {}
    while waiting:
        below = waiting.pop().__subclasses__()
        waiting.extend(below)
        found |= {_letters(kind.__name__): kind for kind in below if not kind.__subclasses__()}
    return found


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


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


def _parse(old: Any, text: str, whole: str, kinds: tuple[str, ...]) -> Any:
    """A text as a value of the same type as the one it replaces."""
    try:
        if isinstance(old, bool):
            return _WORDS[text.lower()]
        if isinstance(old, int):
            return _integer(text)
        if isinstance(old, float):
            return _number(text)
        if isinstance(old, tuple) and old and all(isinstance(item, float | int) for item in old):
            return _numbers(text, len(old))
    except (KeyError, ValueError):
        raise RecipeError(f"--set {whole}={text}: expected a value like {old!r} ({type(old).__name__}).") from None
    if isinstance(old, eqx.Module):
        inner = ", ".join(f"{whole}.{field.name}" for field in dataclasses.fields(old))
        another = f" Or name another kind: {', '.join(sorted(kinds))}." if kinds else ""
        raise RecipeError(
            f"--set {whole}: this is a {type(old).__name__}; set one of its fields: {inner or 'none'}.{another}"
        )
    raise RecipeError(
        f"--set {whole}: a {type(old).__name__} cannot be set from the command line; edit the model file."
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


def _numbers(text: str, count: int) -> tuple[float, ...]:
    values = tuple(_number(part) for part in text.strip("() ").split(","))
    if len(values) != count:
        raise ValueError(text)
    return values
