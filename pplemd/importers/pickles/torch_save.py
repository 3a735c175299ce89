"""What torch.save wrote, in its zip format or the one before, read without torch; numbers stay views of the file."""

import zipfile
from typing import Any

import numpy as np

from pplemd.errors import ImporterError
from pplemd.importers.pickles.cursor import Cursor
from pplemd.importers.pickles.instructions import run
from pplemd.importers.pickles.machine import Budget, Machine
from pplemd.importers.pickles.stand_ins import Storage
from pplemd.importers.pickles.tables import TORCH_NAMES
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
    entries = _entries(data)
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


def _entries(data: memoryview) -> dict[str, memoryview]:
    """The entries of a zip, as views of it.

    Raises:
        ImporterError: where it is damaged, has compressed entries, or more bytes than the file.
    """
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
    return entries
