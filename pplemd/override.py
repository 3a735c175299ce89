"""Recipes as data: written to config.json, and changed field by field from the command line."""

import dataclasses
from typing import Any

import equinox as eqx

from pplemd.errors import RecipeError


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
    return getattr(value, "__qualname__", repr(value))


def override(recipe: Any, assignments: list[str]) -> Any:
    """A recipe with some of its fields replaced.

    Args:
        recipe: any record, such as a Recipe.
        assignments: texts `path=value`, the path dotted: `steps=500`, `generator.learning_rate=1e-4`.

    Raises:
        RecipeError: where a path does not exist or a value is not of the field's type.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise RecipeError(f"--set needs path=value, as in `--set steps=500`; found {assignment!r}.")
        recipe = _replace(recipe, path.strip().split("."), text.strip(), path.strip())
    return recipe


def _replace(record: Any, path: list[str], text: str, whole: str) -> Any:
    names = [field.name for field in dataclasses.fields(record)] if dataclasses.is_dataclass(record) else []
    if path[0] not in names:
        known = f"its fields are {', '.join(names)}" if names else "it has no fields"
        raise RecipeError(f"--set {whole}: {type(record).__name__} has no field {path[0]!r}; {known}.")
    old = getattr(record, path[0])
    new = _replace(old, path[1:], text, whole) if len(path) > 1 else _parse(old, text, whole)
    return dataclasses.replace(record, **{path[0]: new})


def _parse(old: Any, text: str, whole: str) -> Any:
    """A text as a value of the same type as the one it replaces."""
    try:
        if isinstance(old, bool):
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if isinstance(old, int):
            return int(text)
        if isinstance(old, float):
            return float(text)
        if isinstance(old, tuple) and old and all(isinstance(item, float | int) for item in old):
            return tuple(float(part) for part in text.strip("()").split(","))
    except (KeyError, ValueError):
        raise RecipeError(f"--set {whole}={text}: expected a value like {old!r} ({type(old).__name__}).") from None
    if isinstance(old, eqx.Module):
        inner = ", ".join(f"{whole}.{field.name}" for field in dataclasses.fields(old))
        raise RecipeError(f"--set {whole}: this is a {type(old).__name__}; set one of its fields: {inner or 'none'}.")
    raise RecipeError(f"--set {whole}: a {type(old).__name__} cannot be set from the command line; edit the model file.")
