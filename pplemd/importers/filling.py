"""A configuration read by name and kind, and a network filled with another library's arrays by their names."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pplemd.errors import ImporterError

MAX_BLOCKS = 100  # of a network, on its way in where it has one: each is built on its own, in some ten milliseconds
LEAST_ARRAYS = 5  # of a block, as even a damaged checkpoint has: none here has fewer than ten

ModuleT = TypeVar("ModuleT", bound=eqx.Module)
Shape = tuple[int, ...]
Arrays = Mapping[str, Any]  # numpy arrays, or jax.ShapeDtypeStruct where only shapes are wanted


@dataclasses.dataclass(frozen=True)
class Layout:
    """How another library lays out an array.

    Attributes:
        original: shape of the original for the shape of our array.
        convert: our array from the original.
    """

    original: Callable[[Shape], Shape]
    convert: Callable[[np.ndarray], np.ndarray]


SAME = Layout(lambda ours: ours, lambda array: array)
LINEAR = Layout(lambda ours: ours[::-1], lambda array: array.T)  # (out, in) -> (in, out)
POINTWISE = Layout(lambda ours: (*ours[::-1], 1, 1), lambda array: array[:, :, 0, 0].T)  # 1 x 1 convolution as a matrix
CONV = Layout(  # (out, in, h, w) -> (h, w, in, out)
    lambda ours: (ours[3], ours[2], ours[0], ours[1]), lambda array: array.transpose(2, 3, 1, 0)
)


def interleaved(layout: Layout, heads: int) -> Layout:
    """The layout of queries, keys and values whose output axis is (head, feature, 3) in the original.

    Ours is (3, head, feature). The output axis is the original's first one and our last one.

    Args:
        layout: how the array is laid out otherwise: POINTWISE or LINEAR for weights, SAME for biases.
        heads: attention heads.
    """

    def convert(array: np.ndarray) -> np.ndarray:
        apart = array.reshape(heads, -1, 3, *array.shape[1:])
        return layout.convert(np.moveaxis(apart, 2, 0).reshape(array.shape))

    return Layout(layout.original, convert)


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where one of the original's arrays goes.

    Attributes:
        leaf: the array's place in the blank network: the very object found there.
        key: the original's name.
        layout: how the original lays it out.
    """

    leaf: Any
    key: str
    layout: Layout = SAME


@dataclasses.dataclass(frozen=True)
class Constant:
    """An array of the original that is no parameter here, because its value is known.

    Attributes:
        key: the original's name.
        value: what it has to be.
        required: whether the original has to hold it; one that it lacks is taken to be what it has to be.
    """

    key: str
    value: np.ndarray
    required: bool = False


def blank(build: Callable[[], ModuleT]) -> ModuleT:
    """Build a network without memory: each array is a `jax.ShapeDtypeStruct` of its own.

    Args:
        build: a function without arguments that returns the network, such as
            `lambda: SongUNet(options, key=jax.random.key(0))`.
    """
    shapes = eqx.filter_eval_shape(build)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if _is_array(leaf) else leaf, shapes)


def check_volume(arrays: Arrays, blocks: int, numbers: int = 0, most: int = MAX_BLOCKS) -> None:
    """Refuse a network of far more than the arrays hold, before it is built: what is read bounds time and memory.

    Args:
        arrays: the original's arrays.
        blocks: how many blocks the network would have, by its configuration or by names.
        numbers: how many numbers its largest array would have.
        most: how many blocks such networks may have.

    Raises:
        ImporterError: where there are not as many arrays, those without numbers left out, or too many blocks.
    """
    sizes = [math.prod(np.shape(array)) for array in arrays.values()]
    full = sum(size > 0 for size in sizes)
    if numbers > sum(sizes) or LEAST_ARRAYS * blocks > full or blocks > most:
        limit = f" (pplemd builds {most} at most)" if blocks > most else ""
        raise ImporterError(
            f"the configuration says {blocks} blocks or more{limit}, and an array of {numbers:,} numbers; the "
            f"checkpoint has {full:,} arrays that are not empty, and {sum(sizes):,} numbers in all. Check that "
            "configuration and arrays are of one checkpoint."
        )


def fill(
    template: ModuleT,
    slots: Iterable[Slot],
    arrays: Arrays,
    constants: Iterable[Constant] = (),
    ignored: Callable[[str], bool] | None = None,
) -> ModuleT:
    """Return the network with every array taken from the original's.

    Args:
        template: the network, from `blank`.
        slots: one for each of its arrays.
        arrays: the original's arrays by name; any floating-point type, converted to the network's. One that is a
            `jax.ShapeDtypeStruct` leaves its place blank.
        constants: arrays of the original whose values are known and only checked.
        ignored: whether a left-over name of the original is of no concern; by default none is.

    Raises:
        ImporterError: names that are missing or left over, shapes or types that differ, values that are not finite,
            constants of other values: all of them, in one message.
    """
    places = {id(slot.leaf): slot for slot in slots}
    leaves, structure = jax.tree.flatten(template)
    constants = tuple(constants)
    wanted = {slot.key for slot in places.values()} | {constant.key for constant in constants}
    missing = {slot.key for slot in places.values()} | {constant.key for constant in constants if constant.required}
    problems = [f"missing: {key}" for key in sorted(missing - set(arrays))]
    problems += [f"left over: {key}" for key in sorted(set(arrays) - wanted) if ignored is None or not ignored(key)]
    for constant in constants:
        problems += _misfit(constant.key, arrays, constant.value.shape) or _unequal(constant, arrays)
    for leaf in filter(_is_array, leaves):
        slot = places[id(leaf)]  # a KeyError here: the importer forgot an array of its network
        problems += _misfit(slot.key, arrays, slot.layout.original(leaf.shape))
    if problems:
        raise ImporterError(_complaint(type(template).__name__, problems))
    filled = [_filled(leaf, places[id(leaf)], arrays) if _is_array(leaf) else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, filled)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _filled(leaf: jax.ShapeDtypeStruct, slot: Slot, arrays: Arrays) -> jax.Array | jax.ShapeDtypeStruct:
    if _is_array(arrays[slot.key]):
        return leaf
    return jnp.array(np.ascontiguousarray(slot.layout.convert(np.asarray(arrays[slot.key]))), leaf.dtype)


def _misfit(key: str, arrays: Arrays, expected: Shape) -> list[str]:
    if key not in arrays:
        return []
    found = arrays[key]
    array = found if _is_array(found) else np.asarray(found)
    if array.shape != expected:
        return [f"shape of {key}: found {array.shape}, expected {expected}"]
    if not jnp.issubdtype(array.dtype, jnp.floating):  # of JAX: it knows bfloat16
        return [f"type of {key}: found {array.dtype}, expected floating point"]
    bad = 0 if _is_array(array) else int(array.size - np.isfinite(array).sum())
    return [f"not finite: {bad} of {array.size} values of {key}"] if bad else []


def _unequal(constant: Constant, arrays: Arrays) -> list[str]:
    if constant.key not in arrays or _is_array(arrays[constant.key]):
        return []
    found, expected = np.asarray(arrays[constant.key], np.float64), np.asarray(constant.value, np.float64)
    if np.allclose(found, expected, rtol=1e-3, atol=1e-6):  # half precision rounds by 5e-4
        return []
    return [f"values of {constant.key}: up to {np.abs(found - expected).max():.3g} from what the configuration says"]


def _complaint(owner: str, problems: list[str]) -> str:
    return (
        f"these arrays are not those of the {owner} that the configuration describes; "
        f"{len(problems)} {'thing does' if len(problems) == 1 else 'things do'} not fit:\n  "
        + "\n  ".join(problems)
        + "\nExpected every array of the network, of its shape, finite, and no others. "
        "Check that configuration and arrays are of one checkpoint."
    )


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
