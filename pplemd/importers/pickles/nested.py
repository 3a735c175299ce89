"""Tensors in nested dictionaries, as training checkpoints hold them: each state dict by where it lies."""

import collections
from typing import Any

from pplemd.errors import ImporterError
from pplemd.importers.pickles.stand_ins import Tensor

MAX_DEPTH = 6  # of dictionaries inside each other; Lightning's have three
MAX_ENTRIES = 50_000  # looked at: collections that are memoised may be named often
MAX_NAME = 256  # characters, of a tensor's name and of a place


def state_dicts(value: Any) -> dict[str, dict[str, Tensor]]:
    """The tensors of each dictionary by name, by its place: "" for the value itself, "model", "ema.module".

    What is no tensor by a name is left out. A list of tensors is a dictionary by their numbers.

    Raises:
        ImporterError: where the value is no dictionary, holds no tensors by name, or far too many.
    """
    if not isinstance(value, dict):
        raise ImporterError(f"it holds a {type(value).__name__}; expected a dictionary of tensors.")
    found: dict[str, dict[str, Tensor]] = {}
    waiting: collections.deque[tuple[str, Any, int]] = collections.deque([("", value, 0)])
    looked_at = 0
    while waiting:
        place, items, depth = waiting.popleft()
        looked_at += 1 + len(items)
        if looked_at > MAX_ENTRIES:
            raise ImporterError(f"its collections hold more than {MAX_ENTRIES:,} entries. It was refused.")
        for name, item in _named(items).items():
            if isinstance(item, Tensor):
                found.setdefault(place, {})[_checked(name)] = item
            elif isinstance(item, dict | list | tuple) and isinstance(name, str) and depth < MAX_DEPTH:
                waiting.append((_checked(f"{place}.{name}" if place else name), item, depth + 1))
    if not found:
        kinds = ", ".join(f"{ascii(str(key))[:40]}: {type(item).__name__}" for key, item in list(value.items())[:6])
        raise ImporterError(f"it is a dictionary without tensors ({kinds or 'empty'}); expected tensors by name.")
    return found


def _named(items: Any) -> dict[Any, Any]:
    """A list of tensors by their numbers; of a list of anything else nothing."""
    if isinstance(items, dict):
        return items
    whole = all(isinstance(item, Tensor) for item in items)
    return {str(number): item for number, item in enumerate(items)} if whole else {}


def _checked(name: Any) -> str:
    if not isinstance(name, str) or len(name) > MAX_NAME:
        shown = f"{ascii(str(name))[:80]} for a name"
        raise ImporterError(f"it has {shown}; expected text of at most {MAX_NAME} characters.")
    return name
