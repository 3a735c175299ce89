"""The closed tables: which names a checkpoint's pickle may use, and what each becomes."""

import math
from typing import Any

import ml_dtypes
import numpy as np

from pplemd.errors import ImporterError
from pplemd.importers.pickles.machine import Budget, Names
from pplemd.importers.pickles.stand_ins import DType, Module, Opaque, Ordered, Tensor, tensor

NUMBER_CODES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")
STORAGE_TYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


def expect(name: str, arguments: tuple[Any, ...], *kinds: type | tuple[type, ...]) -> None:
    """See that a name is called as checkpoints call it.

    Raises:
        ImporterError: where the arguments are of other types or another number.
    """
    if len(arguments) != len(kinds) or not all(map(isinstance, arguments, kinds)):
        raise strange_call(name, arguments)


def strange_call(name: str, arguments: tuple[Any, ...]) -> ImporterError:
    """The error of a name that is called as checkpoints do not call it."""
    found = ", ".join(type(argument).__name__ for argument in arguments[:8]) or "nothing"
    return ImporterError(f"it calls {name} with {found}. It was refused, and nothing was executed.")


def _ordered(budget: Budget, *arguments: Any) -> Ordered:
    if not arguments:
        return Ordered()
    expect("collections.OrderedDict", arguments, list)
    pairs = arguments[0]
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise ImporterError("it has an OrderedDict of something else than names and values. It is damaged.")
    budget.spend(100 * len(pairs))  # bytes of an entry
    return Ordered((name, value) for name, value in pairs)


def _mapping(budget: Budget, *arguments: Any) -> Ordered:
    """A dictionary of another class; its entries come after it, or as its one argument."""
    entries = arguments[0] if arguments and isinstance(arguments[0], dict) else {}
    budget.spend(100 * len(entries))
    return Ordered(entries)


def _size(budget: Budget, *arguments: Any) -> tuple[Any, ...]:
    expect("torch.Size", arguments, (list, tuple))
    budget.spend(8 * len(arguments[0]))
    return tuple(arguments[0])


def _opaque(budget: Budget, *arguments: Any) -> Opaque:
    return Opaque()


def _numpy_array(budget: Budget, *arguments: Any) -> Opaque:
    if arguments[:1] != (_opaque,):
        raise strange_call("numpy.core.multiarray._reconstruct", arguments)
    return Opaque()


def _set(budget: Budget, *arguments: Any) -> set:
    items = arguments[0] if arguments else []
    expect("set", (items, *arguments[1:]), list)
    if not all(isinstance(item, str) for item in items):
        raise ImporterError("it has a set of something else than names; expected names.")
    budget.spend(100 * len(items))
    return set(items)


def _encoded(budget: Budget, *arguments: Any) -> bytes:
    expect("_codecs.encode", arguments, str, str)
    text, encoding = arguments
    if encoding not in ("latin1", "latin-1"):
        raise ImporterError(f"it encodes a text as {encoding[:20]!r}; expected latin1, as pickles write bytes.")
    budget.spend(len(text))
    try:
        return text.encode("latin-1")
    except UnicodeError as error:
        raise ImporterError("it has bytes that are none. It is damaged: download it again.") from error


def _no_bytes(budget: Budget, *arguments: Any) -> bytes:
    expect("bytes", arguments)
    return b""


def _number_type(budget: Budget, *arguments: Any) -> DType:
    expect("numpy.dtype", arguments[:1], str)  # then whether to align and to copy, which mean nothing here
    if arguments[0] not in NUMBER_CODES:
        raise ImporterError(f"it has a number of the numpy type {ascii(arguments[0][:20])}; expected a plain number.")
    return DType(arguments[0])


def _number(budget: Budget, *arguments: Any) -> float | int | bool:
    expect("numpy scalar", arguments, DType, (bytes, memoryview))
    kind, raw = arguments
    order = "=" if kind.order == "|" else kind.order
    dtype = np.dtype(kind.code).newbyteorder(order)
    if len(raw) != dtype.itemsize:
        raise ImporterError(f"it has a number of {len(raw)} bytes for one of {dtype.itemsize}. It is damaged.")
    return np.frombuffer(raw, dtype)[0].item()


def _rebuilt(budget: Budget, *arguments: Any) -> Tensor:
    if not 5 <= len(arguments) <= 7:  # storage, offset, size, stride, requires_grad, hooks, and metadata since torch 2
        raise strange_call("torch._utils._rebuild_tensor_v2", arguments)
    made = tensor(*arguments[:4])
    budget.claim(math.prod(made.shape) * made.storage.dtype.itemsize)
    return made


def _parameter(budget: Budget, *arguments: Any) -> Tensor:
    expect("torch._utils._rebuild_parameter", arguments, Tensor, bool, dict)
    return arguments[0]


def _module_dict(budget: Budget, *arguments: Any) -> Module:
    expect("ModuleDict", arguments)
    return Module("ModuleDict", {})


def _object(budget: Budget, *arguments: Any) -> Any:
    expect("object", arguments)
    return None


def _reconstructed(budget: Budget, *arguments: Any) -> Module:
    """Protocols 0 and 1 write an object as copyreg._reconstructor(its class, object, None)."""
    if arguments != (_module_dict, _object, None):
        raise strange_call("copyreg._reconstructor", arguments)
    return Module("ModuleDict", {})


def _persistent_module(budget: Budget, *arguments: Any) -> Module:
    """EDM's classes carry their module's source beside their state; it is dropped unread."""
    expect("torch_utils.persistence._reconstruct_persistent_obj", arguments, dict)
    meta = arguments[0]
    kind, state = meta.get("class_name"), meta.get("state")
    budget.step(len(state) if isinstance(state, dict) else 1)
    named = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    if meta.get("type") != "class" or not isinstance(kind, str) or not named:
        raise ImporterError("it has a network whose class or state is missing. It is damaged: download it again.")
    return Module(kind[:256], state)


_AS_BYTES: Names = {
    ("_codecs", "encode"): _encoded,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
}
_TENSORS: Names = {
    ("collections", "OrderedDict"): _ordered,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}
_NUMBERS: Names = {
    ("numpy", "dtype"): _number_type,
    ("numpy", "ndarray"): _opaque,  # of numbers that are no weights, such as the state of a random generator
    **{(f"numpy.{core}.multiarray", "scalar"): _number for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _numpy_array for core in ("core", "_core")},
}
_ALONGSIDE: Names = {  # what training checkpoints hold beside weights: settings, paths, counters
    ("argparse", "Namespace"): _opaque,
    ("types", "SimpleNamespace"): _opaque,
    **{("pathlib", name): _opaque for name in ("Path", "PosixPath", "WindowsPath", "PurePosixPath")},
    **{("builtins", name): _opaque for name in ("dict", "list", "int", "float")},  # of a defaultdict
    **{("__builtin__", name): _opaque for name in ("dict", "list", "int", "float")},
    ("builtins", "set"): _opaque,
    ("__builtin__", "set"): _opaque,
    **{("collections", name): _mapping for name in ("defaultdict", "Counter")},
    ("lightning_fabric.utilities.data", "AttributeDict"): _mapping,
    ("lightning.fabric.utilities.data", "AttributeDict"): _mapping,
    ("pytorch_lightning.utilities.parsing", "AttributeDict"): _mapping,
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"): "ModelCheckpoint",  # a key in old versions
    ("torch", "Size"): _size,
    ("torch", "device"): _opaque,
    **{("torch", name): "a type" for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "bool")},
}
TORCH_NAMES: Names = {
    **_AS_BYTES,
    **_TENSORS,
    **_NUMBERS,
    **_ALONGSIDE,
    **{("torch", name): dtype for name, dtype in STORAGE_TYPES.items()},
}
PERSISTENT_NAMES: Names = {  # of the pickle around torch's streams; _load_from_bytes is added by who can read them
    **_AS_BYTES,
    **_TENSORS,
    **_NUMBERS,
    ("builtins", "set"): _set,
    ("__builtin__", "set"): _set,
    ("builtins", "object"): _object,
    ("__builtin__", "object"): _object,
    ("copyreg", "_reconstructor"): _reconstructed,
    ("copy_reg", "_reconstructor"): _reconstructed,
    ("dnnlib.util", "EasyDict"): _mapping,  # of EDM2, which is refused by the class of its network
    ("torch.nn.modules.container", "ModuleDict"): _module_dict,
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent_module,
}
