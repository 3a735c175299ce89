"""What the names in a checkpoint's pickle become: inert records that hold what they were given."""

import dataclasses
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
