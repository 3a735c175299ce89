"""The safetensors format, by its own package: a JSON header, then the arrays' bytes.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save_file

from pplemd.errors import ImporterError
from pplemd.importers.documents import MAX_BYTES, json_object
from pplemd.importers.views import view

MAX_DIMENSIONS = 8
MAX_SIZE = 2**48  # of all dimensions that are not 0 together, far below what overflows
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


def is_safetensors(data: memoryview) -> bool:
    """Whether a file begins as one of this format does, whatever it is called."""
    return bytes(data[8:9]) == b"{" and 2 <= int.from_bytes(data[:8], "little") <= min(len(data) - 8, MAX_BYTES)


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name, as views of it.

    The package checks that each array has the bytes of its type and shape, and that the arrays fill the file, one after
    the other. It would load copies (and no bfloat16 for NumPy), so the views are made here. It is also less strict: it
    takes headers of 100 MB, a name that stands there twice, and any number of dimensions. These are refused first.

    Raises:
        ImporterError: where the header is damaged or strange, or the arrays do not fill the rest of the file exactly.
    """
    data = view(path)
    size = int.from_bytes(data[:8], "little")
    if not is_safetensors(data):
        raise ImporterError(
            f"{path} is no safetensors file: its header would have {size:,} of its {len(data):,} bytes, and may have "
            f"{MAX_BYTES:,}. Check that it is the right file, and whole."
        )
    header = json_object(data[8 : 8 + size], f"the header of {path}")
    header.pop("__metadata__", None)
    try:
        with safetensors.safe_open(path, framework="numpy"):
            pass  # to open a file is to check its header
    except safetensors.SafetensorError as error:
        raise ImporterError(f"{path} is damaged: {str(error)[:200]}. Download it again.") from error
    found = {}
    for name, entry in header.items():
        dtype, shape, (begin, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if dtype not in DTYPES or len(shape) > MAX_DIMENSIONS or math.prod(size or 1 for size in shape) >= MAX_SIZE:
            raise ImporterError(
                f"{path}: the array {ascii(name)[:80]} is of type {dtype} and shape {str(shape)[:60]}; expected one of "
                f"{', '.join(DTYPES)}, and at most {MAX_DIMENSIONS} sizes, far below 2^48 together."
            )
        found[name] = np.frombuffer(data[8 + size + begin : 8 + size + stop], DTYPES[dtype]).reshape(shape)
    return found


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays, in memory order C, and flush them to the disk.

    Raises:
        OSError: where the file cannot be written.
    """
    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)
    except safetensors.SafetensorError as error:  # what the package makes of an error of the disk
        raise OSError(str(error)) from error
    with path.open("rb") as file:
        os.fsync(file.fileno())
