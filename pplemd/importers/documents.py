"""JSON of unknown origin: bounded in bytes, depth and names."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

from pplemd.errors import ImporterError
from pplemd.importers.views import view

MAX_DEPTH = 64  # of lists and objects in each other; configurations have some five
MAX_BYTES = 4 * 2**20  # of a document: unpacked, it takes up to some thirty times as much


def json_object(raw: bytes | memoryview, what: str) -> dict[str, Any]:
    """A JSON object.

    Args:
        raw: its text, in UTF-8.
        what: what it is called in a message.

    Raises:
        ImporterError: where it is none, is larger than any configuration, or has a name twice.
    """
    if len(raw) > MAX_BYTES:
        raise ImporterError(f"{what} has {len(raw):,} bytes; expected a JSON object of at most {MAX_BYTES:,}.")
    try:
        value = json.loads(bytes(raw).decode(), object_pairs_hook=_unique, parse_constant=_constant)
        if _deep(value):
            raise RecursionError
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ImporterError(f"{what} is no sound JSON ({reason}); expected one object. Download it again.") from error
    if not isinstance(value, dict):
        raise ImporterError(f"{what} is a JSON {type(value).__name__}; expected an object.")
    return value


def json_file(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ImporterError: where there is none.
    """
    return json_object(view(path), str(path))


def _deep(value: Any) -> bool:
    """Whether lists and objects lie in each other so deep that a recursion over them could fail."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = list(itertools.chain.from_iterable(inner))
    return any(isinstance(item, dict | list) for item in level)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _constant(word: str) -> float:
    if word == "NaN":
        raise ValueError("NaN is no value of a configuration")
    return math.inf if word == "Infinity" else -math.inf
