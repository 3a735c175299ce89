"""What the names in a checkpoint's pickle become: inert records, the tensors in them, and plain data."""

import collections
import dataclasses
import math
from typing import Any

import numpy as np

from pplemd.errors import ImporterError

MAX_DIMENSIONS = 8  # of a tensor; a network has at most four


class Ordered(dict):
    """A collections.OrderedDict. Its own attributes, such as a state dict's metadata, are dropped."""


@dataclasses.dataclass(eq=False)
class Module:
    """A network, or a part of one.

    Attributes:
        kind: the name of its class.
        state: its attributes, by name; empty until it is given one.
    """

    kind: str
    state: dict[str, Any]


@dataclasses.dataclass(eq=False)
class Opaque:
    """A thing beside the weights, such as the arguments of a training: nothing of it is kept."""


@dataclasses.dataclass(eq=False)
class DType:
    """A numpy dtype of one number.

    Attributes:
        code: kind and size, such as f8.
        order: byte order.
    """

    code: str
    order: str = "="


@dataclasses.dataclass(eq=False)
class Storage:
    """The numbers of one or more tensors.

    Attributes:
        dtype: type of each.
        count: how many there are.
        raw: their bytes; None until the stream has come to them.
    """

    dtype: np.dtype
    count: int
    raw: memoryview | None = None


@dataclasses.dataclass(eq=False)
class Tensor:
    """Some numbers of a storage as an array.

    Attributes:
        storage: where they lie.
        offset: number of the first.
        shape: size of each dimension.
        strides: numbers from one entry to the next, in each dimension.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """The array, a view of the file."""
        if self.storage.raw is None:
            raise ImporterError("it has a tensor whose numbers are missing. It is damaged: download it again.")
        size = self.storage.dtype.itemsize
        return np.ndarray(
            self.shape,
            self.storage.dtype,
            self.storage.raw,
            self.offset * size,
            tuple(stride * size for stride in self.strides),
        )


def tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """A tensor whose numbers all lie inside its storage, none of them twice.

    Raises:
        ImporterError: where sizes or strides say otherwise.
    """
    if not isinstance(storage, Storage) or type(offset) is not int or not (_sizes(shape, 1) and _sizes(strides, 0)):
        raise ImporterError(
            f"it has a tensor of a {type(storage).__name__}, offset {_number(offset)}, sizes {_numbers(shape)} and "
            f"strides {_numbers(strides)}; expected a storage, positive sizes and strides that are not negative."
        )
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS or offset < 0:
        raise ImporterError(
            f"it has a tensor with sizes {_numbers(shape)}, strides {_numbers(strides)} and offset {offset}; expected "
            f"as many of each, at most {MAX_DIMENSIONS}, and no negative offset."
        )
    last = offset
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1 and stride <= last - offset:
            raise ImporterError(
                f"it has a tensor of sizes {_numbers(shape)} and strides {_numbers(strides)}, whose entries overlap in "
                "memory; expected each number once."
            )
        last += (size - 1) * stride
    if last >= storage.count:
        raise ImporterError(
            f"it has a tensor of sizes {_numbers(shape)} that reaches number {last:,} of a storage of {storage.count:,}"
            "; expected all inside. It is damaged: download it again."
        )
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _sizes(value: Any, least: int) -> bool:
    return isinstance(value, tuple | list) and all(type(size) is int and size >= least for size in value)


def _number(value: Any) -> str:
    return str(value)[:24] if type(value) is int else f"a {type(value).__name__}"


def _numbers(value: Any) -> str:
    """Sizes or strides for a message, however strange."""
    if not isinstance(value, tuple | list):
        return f"a {type(value).__name__}"
    shown = ", ".join(_number(item) for item in value[:MAX_DIMENSIONS])
    return f"({shown}{', ...' if len(value) > MAX_DIMENSIONS else ''})"


def accept_state(value: Any, state: Any) -> None:
    """Give a stand-in the state that a pickle has for it.

    Raises:
        ImporterError: where it takes none, or not this one.
    """
    if isinstance(value, Module) and isinstance(state, dict) and all(isinstance(key, str) for key in state):
        value.state = state
    elif isinstance(value, DType) and isinstance(state, tuple) and len(state) >= 2 and state[1] in ("<", ">", "|", "="):
        value.order = state[1]
    elif not (isinstance(value, Opaque) or (isinstance(value, Ordered) and isinstance(state, dict))):
        raise ImporterError(
            f"it gives a state of type {type(state).__name__} to a {type(value).__name__}, which takes none of that "
            "kind. It was refused, and nothing was executed."
        )


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
        return {
            key: _plain(item, depth + 1, left)
            for key, item in value.items()
            if not (isinstance(item, float) and math.isinf(item))
        }
    raise ImporterError(f"its configuration holds a {type(value).__name__} that is no plain value. It was refused.")
