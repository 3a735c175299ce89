"""Weights in an .npz file: "sd/KEY" for each array of a state dict, "config" as JSON text; nothing is unpickled."""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pplemd.errors import ImporterError
from pplemd.importers.documents import json_object
from pplemd.importers.views import view, zip_entries

PREFIX = "sd/"  # of the weights, where a file holds other arrays too
MAX_EXPANSION = 20  # times; weights hardly compress, so more is a zip bomb
SPARE_BYTES = 64 * 2**20
MAX_HEADER = 10_000  # bytes of an array's header, as numpy allows
_ERRORS = (
    ValueError, TypeError, EOFError, OSError, KeyError, RuntimeError, MemoryError, OverflowError, struct.error,
    zlib.error, lzma.LZMAError, zipfile.BadZipFile, tokenize.TokenError,
)  # fmt: skip


def read_npz(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The configuration of a file, empty where it has none, and its weights by name.

    Raises:
        ImporterError: where it is damaged, holds pickled objects, or unpacks to far more than it has.
    """
    data = view(path)
    entries = {entry.filename.removesuffix(".npy"): entry for entry in zip_entries(data)}
    prefix = PREFIX if any(name.startswith(PREFIX) for name in entries) else ""
    wanted = [name for name in entries if name.startswith(prefix) and name != "config"]
    total = sum(entries[name].file_size for name in (*wanted, *(["config"] if "config" in entries else [])))
    if total > MAX_EXPANSION * len(data) + SPARE_BYTES:
        raise ImporterError(
            f"{path} unpacks from {len(data):,} to {total:,} bytes, as zip bombs do; expected weights, which hardly "
            "compress."
        )
    with zipfile.ZipFile(path) as archive:
        config = _config(archive, entries["config"], path) if "config" in entries else {}
        weights = {name.removeprefix(prefix): _array(archive, entries[name], path) for name in wanted}
    return config, weights


def _config(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> dict[str, Any]:
    text = _array(archive, entry, path)
    if text.shape != () or text.dtype.kind not in "US":
        raise ImporterError(
            f"{path}: its config is an array of {text.dtype} and shape {text.shape}; expected JSON text."
        )
    value = text.item()
    raw = value.encode(errors="surrogatepass") if isinstance(value, str) else value
    return json_object(raw, f"the config of {path}")


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """One array; its claimed size is compared with what the zip says before memory is asked for."""
    try:
        with archive.open(entry) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file, MAX_HEADER)
            if dtype.hasobject or math.prod(shape) * dtype.itemsize != entry.file_size - file.tell():
                raise ValueError(f"an array of {dtype} and shape {shape} in {entry.file_size:,} bytes")
        with archive.open(entry) as file:
            return np.lib.format.read_array(file, allow_pickle=False, max_header_size=MAX_HEADER)
    except _ERRORS as error:
        raise ImporterError(
            f"{path}: {ascii(entry.filename)[:80]} is no plain array ({str(error)[:200]}); expected numbers. Write the "
            "file again with np.savez, or download it again."
        ) from error
