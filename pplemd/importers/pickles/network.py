"""EDM's checkpoints: a pickle of {"ema": network, ...}, whose tensors are torch.save streams inside it."""

from typing import Any

from pplemd.errors import ImporterError
from pplemd.importers.pickles.cursor import Cursor
from pplemd.importers.pickles.instructions import run
from pplemd.importers.pickles.machine import Budget, Machine
from pplemd.importers.pickles.stand_ins import Module, Storage, Tensor
from pplemd.importers.pickles.tables import PERSISTENT_NAMES, expect
from pplemd.importers.pickles.torch_save import read_torch_save

PLACES = ("ema", "net", "model")  # where a checkpoint keeps its network, the averaged one first
STARTS = b"\x80(}]c"  # of pickles: a protocol, or in the oldest a collection or an object
MAX_DEPTH = 32  # modules inside each other; EDM's have five
MAX_ENTRIES = 100_000  # names in all modules together: one that is memoised may be named often
MAX_TENSORS = 20_000  # by name; EDM's largest network has 553


def read_network(data: memoryview) -> Module:
    """The network of an EDM checkpoint, its averaged one where it has several.

    Args:
        data: the file.

    Raises:
        ImporterError: where it is damaged, hostile or of another kind.
    """
    if data[0] not in STARTS:
        raise ImporterError(f"it is no pickle: it begins with {ascii(bytes(data[:16]))[2:-1]}. Check the path.")
    names = {**PERSISTENT_NAMES, ("torch.storage", "_load_from_bytes"): _storage}
    value = run(Machine(Cursor(data), names, Budget(len(data))))
    if isinstance(value, dict):
        found = [value[place] for place in PLACES if isinstance(value.get(place), Module)]
        if not found:
            raise ImporterError(
                f"it is a pickle of {_keys(value)}; expected an EDM checkpoint, a dictionary with a network as 'ema'."
            )
        return found[0]
    if not isinstance(value, Module):
        raise ImporterError(f"it is a pickle of a {type(value).__name__}; expected an EDM checkpoint.")
    return value


def _storage(budget: Budget, *arguments: Any) -> Storage:
    expect("torch.storage._load_from_bytes", arguments, (bytes, memoryview))
    value = read_torch_save(memoryview(arguments[0]), budget)
    if not isinstance(value, Storage):
        raise ImporterError(f"it has a torch.save stream of a {type(value).__name__}; expected a tensor's storage.")
    return value


def _keys(value: dict) -> str:
    shown = ", ".join(ascii(str(key)[:30]) for key in list(value)[:6])
    return f"a dictionary of {shown or 'nothing'}"


def state_dict(network: Module) -> dict[str, Tensor]:
    """The tensors of a network by their names in its state dict: model.enc.16x16_conv.weight.

    Raises:
        ImporterError: where its parts are no modules and tensors, or lie in each other without end.
    """
    found: dict[str, Tensor] = {}
    waiting: list[tuple[str, Module, int]] = [("", network, 0)]
    visited = 0
    while waiting:
        prefix, module, depth = waiting.pop()
        numbers, modules = [*_part(module, "_parameters"), *_part(module, "_buffers")], _part(module, "_modules")
        visited += 1 + len(numbers) + len(modules)
        if depth > MAX_DEPTH or visited > MAX_ENTRIES:
            raise ImporterError("its network's parts lie in each other without end. It was refused.")
        for name, value in numbers:
            if isinstance(value, Tensor):
                found[f"{prefix}{name}"] = value
                if len(found) > MAX_TENSORS:
                    raise ImporterError(f"its network names more than {MAX_TENSORS:,} tensors. It was refused.")
            elif value is not None:  # as a layer without a bias has it
                raise ImporterError(f"its {ascii(prefix + name)[:80]} is a {type(value).__name__}; expected a tensor.")
        for name, value in modules:
            if isinstance(value, Module):
                waiting.append((f"{prefix}{name}.", value, depth + 1))
            elif value is not None:
                raise ImporterError(f"its {ascii(prefix + name)[:80]} is a {type(value).__name__}; expected a module.")
    return found


def _part(module: Module, name: str) -> list[tuple[str, Any]]:
    """Named tensors or modules of a module."""
    value = module.state.get(name, {})
    if not isinstance(value, dict) or not all(isinstance(key, str) and len(key) <= 256 for key in value):
        raise ImporterError(f"its {name} is no dictionary by names. It is damaged: download it again.")
    return list(value.items())
