"""What torch.save wrote, in its zip format or the one before, and EDM's pickles of such streams, read without torch."""

import zipfile
from typing import Any

import numpy as np

from pplemd.errors import ImporterError
from pplemd.importers.pickles.instructions import run
from pplemd.importers.pickles.machine import Budget, Cursor, Machine
from pplemd.importers.pickles.stand_ins import Module, Storage, Tensor
from pplemd.importers.pickles.tables import PERSISTENT_NAMES, TORCH_NAMES, expect
from pplemd.importers.views import zip_entries

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # that the stream of the old format begins with
ZIP = b"PK\x03\x04"
LOCAL_HEADER = 30  # bytes of a zip entry's header, before its name; the lengths of name and extra are its last four


class Storages:
    """The storages of one stream, made as its pickle names them."""

    def __init__(self) -> None:
        self.found: dict[str, Storage] = {}

    def __call__(self, identity: Any) -> Storage:
        """What a persistent id stands for: ("storage", type, key, device, count), and None in the old format.

        Raises:
            ImporterError: where it is something else.
        """
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise ImporterError("it has a persistent id that is no storage. It was refused; nothing was executed.")
        _, dtype, key, device, count = identity[:5]
        plain = isinstance(key, str) and isinstance(device, str) and type(count) is int and count >= 0
        if not isinstance(dtype, np.dtype) or not plain or identity[5:] not in ((), (None,)):
            raise ImporterError("it has a storage of an unknown type, or a view of one; expected plain storages.")
        if key not in self.found:
            self.found[key] = Storage(dtype, count)
        same = self.found[key]
        if (same.dtype, same.count) != (dtype, count):
            raise ImporterError(f"it has two storages of the key {ascii(key[:20])}. It is damaged.")
        return same

    def fill(self, key: str, raw: memoryview) -> None:
        """Give a storage its bytes.

        Raises:
            ImporterError: where they are not as many as it has numbers.
        """
        storage = self.found[key]
        if len(raw) != storage.count * storage.dtype.itemsize:
            raise ImporterError(
                f"it has {len(raw):,} bytes for a storage of {storage.count:,} numbers of {storage.dtype.itemsize}. It "
                "is damaged: download it again."
            )
        storage.raw = raw


def read_torch_save(data: memoryview, budget: Budget) -> Any:
    """The object that a torch.save stream holds, in stand-ins.

    Args:
        data: the stream.
        budget: what may be spent on it.

    Raises:
        ImporterError: where it is damaged, or asks for what is refused.
    """
    return _from_zip(data, budget) if bytes(data[:4]) == ZIP else _from_stream(data, budget)


def _from_stream(data: memoryview, budget: Budget) -> Any:
    """Magic number, version, system, object, keys: a pickle each; then for each storage its length and numbers."""
    cursor, storages = Cursor(data), Storages()

    def pickled(persistent: Storages | None = None) -> Any:
        return run(Machine(cursor, TORCH_NAMES, budget, persistent))

    if pickled() != MAGIC or pickled() != PROTOCOL:
        raise ImporterError("it is no torch.save stream: its magic number is another. Check that it is the right file.")
    system = pickled()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ImporterError("it was written on a big-endian machine; expected little-endian numbers.")
    value, keys = pickled(storages), pickled()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(storages.found):
        raise ImporterError("its storages are not those that its tensors name. It is damaged: download it again.")
    for key in keys:
        storage = storages.found[key]
        if cursor.unsigned(8) != storage.count:
            raise ImporterError("it has a storage of another length than its tensors say. It is damaged.")
        storages.fill(key, cursor.take(storage.count * storage.dtype.itemsize))
    return value


def _from_zip(data: memoryview, budget: Budget) -> Any:
    """NAME/data.pkl, and NAME/data/KEY for each storage, all of them stored, none compressed."""
    # the entries of a zip, as views of it
    found = zip_entries(data)
    if sum(entry.file_size for entry in found) > len(data):
        raise ImporterError("its zip unpacks to more than it has, as zip bombs do; expected stored numbers.")
    entries = {}
    for entry in found:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size or entry.flag_bits & 1:
            raise ImporterError("its zip is compressed or encrypted; expected stored numbers, as torch.save writes.")
        cursor = Cursor(data, max(entry.header_offset, 0))
        header = cursor.take(LOCAL_HEADER)
        cursor.take(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"))
        entries[entry.filename] = cursor.take(entry.file_size)
    pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ImporterError(f"it is a zip with {len(pickles)} data.pkl; expected one, as torch.save writes.")
    root = pickles[0].removesuffix("data.pkl")
    order = entries.get(f"{root}byteorder")
    if order is not None and bytes(order[:16]) != b"little":
        raise ImporterError("it was written on a big-endian machine; expected little-endian numbers.")
    storages = Storages()
    value = run(Machine(Cursor(entries[pickles[0]]), TORCH_NAMES, budget, storages))
    for key in storages.found:
        raw = entries.get(f"{root}data/{key}")
        if raw is None:
            raise ImporterError(f"it lacks the storage {ascii(key[:20])}. It is damaged: download it again.")
        storages.fill(key, raw)
    return value


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
