"""The safetensors format, read and written: a JSON header, then the arrays' bytes.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from pplemd.errors import ImporterError
from pplemd.importers.documents import MAX_BYTES, json_object
from pplemd.importers.views import view

MAX_DIMENSIONS = 8
MAX_SIZE = 2**48  # of a dimension, and of all that are not 0 together, far below what overflows
DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def is_safetensors(data: memoryview) -> bool:
    """Whether a file begins as one of this format does, whatever it is called."""
    return bytes(data[8:9]) == b"{" and 2 <= int.from_bytes(data[:8], "little") <= min(len(data) - 8, MAX_BYTES)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, as views of it.

    Raises:
        ImporterError: where the header is damaged or strange, or the arrays do not fill the rest of the file exactly.
    """
    data = view(path)
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= size <= min(len(data) - 8, MAX_BYTES) or data[8] != ord("{"):
        raise ImporterError(
            f"{path} is no safetensors file: its header would have {size:,} of its {len(data):,} bytes, and may have "
            f"{MAX_BYTES:,}. Check that it is the right file, and whole."
        )
    header = json_object(data[8 : 8 + size], f"the header of {path}")
    header.pop("__metadata__", None)
    rest, end, found = data[8 + size :], 0, {}
    for name, entry in sorted(header.items(), key=lambda item: _first(item[1], path)):
        dtype, shape, (begin, stop) = _entry(name, entry, path)
        if begin != end or stop - begin != math.prod(shape) * dtype.itemsize or stop > len(rest):
            raise ImporterError(
                f"{path}: the array {ascii(name)[:80]} of shape {shape} and type {dtype} claims bytes {begin:,} to "
                f"{stop:,} of {len(rest):,}, after others to {end:,}; expected one array after the other. Download it "
                "again."
            )
        found[name] = np.frombuffer(rest[begin:stop], dtype).reshape(shape)
        end = stop
    if end != len(rest):
        raise ImporterError(
            f"{path}: its arrays end at byte {end:,} of {len(rest):,}. It is damaged: download it again."
        )
    return {name: found[name] for name in header}


def _first(entry: Any, path: Path) -> tuple[int, int]:
    """Where an array begins and ends, to sort by."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not (
        isinstance(offsets, list) and len(offsets) == 2 and all(type(item) is int and item >= 0 for item in offsets)
    ):
        raise ImporterError(f"{path}: an array's data_offsets are no two positions. It is damaged: download it again.")
    return offsets[0], offsets[1]


def _entry(name: str, entry: dict[str, Any], path: Path) -> tuple[np.dtype, tuple[int, ...], tuple[int, int]]:
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if (
        not (isinstance(dtype, str) and dtype in DTYPES)
        or not (isinstance(shape, list) and len(shape) <= MAX_DIMENSIONS)
        or not all(type(size) is int and 0 <= size < MAX_SIZE for size in shape)
        or math.prod(size or 1 for size in shape) >= MAX_SIZE
    ):
        raise ImporterError(
            f"{path}: the array {ascii(name)[:80]} is of type {ascii(str(dtype))[:20]} and shape {str(shape)[:60]}; "
            f"expected one of {', '.join(DTYPES)}, and at most {MAX_DIMENSIONS} sizes, far below 2^48 together."
        )
    return DTYPES[dtype], tuple(shape), _first(entry, path)


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays, one after the other, and flush them to the disk.

    Raises:
        OSError: where the file cannot be written.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": NAMES[_little(array.dtype)], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array, _little(array.dtype)).tobytes())
        file.flush()
        os.fsync(file.fileno())


def _little(dtype: np.dtype) -> np.dtype:
    """The same type, little-endian."""
    return dtype if dtype == DTYPES["BF16"] else dtype.newbyteorder("<")
