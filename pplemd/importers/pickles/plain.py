"""Stand-ins of a pickle as plain JSON data, with an end."""

import math
from typing import Any

from pplemd.errors import ImporterError

MAX_DEPTH, MAX_ITEMS = 8, 1000  # of a configuration: EDM's have two levels and twenty entries
MAX_TEXT = 1000


def plain(value: Any) -> Any:
    """A configuration as JSON data: tuples become lists; infinite limits, which limit nothing, are left out.

    Raises:
        ImporterError: where it holds something else, or is far too large.
    """
    return _plain(value, 0, [MAX_ITEMS])


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0:
        raise ImporterError("its configuration is far larger than any network's. It was refused.")
    if value is None or isinstance(value, bool | float) or (isinstance(value, str) and len(value) <= MAX_TEXT):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1, left) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) and len(key) <= MAX_TEXT for key in value):
        return {key: _plain(item, depth + 1, left) for key, item in value.items() if not _infinite(item)}
    raise ImporterError(f"its configuration holds a {type(value).__name__} that is no plain value. It was refused.")


def _infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)
