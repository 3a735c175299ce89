"""What a configuration says, read by name and kind."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx

from pplemd.errors import ImporterError

LARGEST = 2**20  # of any size in a configuration: far above any network, far below what overflows


class Arguments(eqx.Module):
    """A constructor's arguments, read by name and kind.

    Attributes:
        given: the arguments.
        owner: whose they are, in a message.
    """

    given: Mapping[str, Any]
    owner: str = "an EDM checkpoint"

    def whole(self, name: str, default: int | None = None) -> int:
        """An integer of 0 or more."""
        found = self.given.get(name, default)
        if not _is_whole(found):
            raise self.wrong(name, f"an integer from 0 to {LARGEST}")
        return int(found)

    def wholes(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        """A list of integers of 0 or more."""
        found = self.given.get(name, default)
        if not _is_list(found) or not all(_is_whole(item) for item in found):
            raise self.wrong(name, f"a list of integers from 0 to {LARGEST}")
        return tuple(int(item) for item in found)

    def number(self, name: str, default: float) -> float:
        """A finite number."""
        found = self.given.get(name, default)
        if not _is_number(found):
            raise self.wrong(name, "a finite number")
        return float(found)

    def numbers(self, name: str, default: Sequence[float]) -> tuple[float, ...]:
        """A list of finite numbers."""
        found = self.given.get(name, default)
        if not _is_list(found) or not all(_is_number(item) for item in found):
            raise self.wrong(name, "a list of finite numbers")
        return tuple(float(item) for item in found)

    def one_of(self, name: str, default: str, names: Sequence[str]) -> str:
        """One of some names."""
        found = self.given.get(name, default)
        if found not in names:
            raise self.wrong(name, f"one of {', '.join(names)}")
        return str(found)

    def optional(self, name: str, default: int | None = None) -> int | None:
        """An integer of 0 or more, or None."""
        return None if self.given.get(name, default) is None else self.whole(name, default)

    def flag(self, name: str, default: bool) -> bool:
        """True or False."""
        found = self.given.get(name, default)
        if not isinstance(found, bool):
            raise self.wrong(name, "true or false")
        return found

    def wrong(self, name: str, expected: str) -> ImporterError:
        """The complaint that an argument is not what was expected."""
        shown = repr(self.given.get(name))[:80]
        return ImporterError(
            f"the configuration says {name}={shown}; expected {expected}. Check that it is of {self.owner}, as it was "
            "saved; wrap a network that has no such form in em.teachers.DenoiserFunction."
        )


def _is_whole(found: Any) -> bool:
    return _is_number(found) and int(found) == found and 0 <= found <= LARGEST


def _is_number(found: Any) -> bool:
    try:
        return not isinstance(found, str | bytes | bool) and math.isfinite(found)
    except (TypeError, ValueError, OverflowError):  # no number, or an integer beyond the largest float
        return False


def _is_list(found: Any) -> bool:
    return isinstance(found, Sequence) and not isinstance(found, str | bytes)
