"""Arrays by name: safetensors, an .npz, or what torch.save wrote, in one file or several."""

import logging
import lzma
import math
import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save_file

from pplemd.errors import ImporterError
from pplemd.importers.network_places import StateDicts, only_one, with_names
from pplemd.importers.pickles import Budget, read_torch_save, state_dicts
from pplemd.importers.pipelines import MAX_BYTES, json_file, json_object
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


logger = logging.getLogger("pplemd")


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a state dict by name, from an .npz, a .safetensors, or what torch.save wrote.

    Of an .npz that holds names that begin with "sd/", those alone are taken, without that beginning. Of a training
    checkpoint, {"model": ..., "ema": ..., "step": ...}, the averaged network's are taken, and the log says so.

    Raises:
        ImporterError: where it is damaged, hostile or of another kind, or holds several networks that nothing tells
            apart; nothing of it is executed.
    """
    file = Path(path)
    try:
        if file.suffix == ".npz":
            return read_npz(file)[1]
        arrays, note = only_one(read_weights(file))
    except ImporterError as error:
        raise error if str(path) in str(error) else ImporterError(f"{path}: {error}") from error
    if note is not None:
        logger.warning("%s: %s", path, note)
    return arrays


def read_weights(path: Path) -> StateDicts:
    """The arrays of a .safetensors file, or of what torch.save wrote, by place and name.

    Raises:
        ImporterError: where it is damaged, hostile or of another kind; nothing of it is executed.
    """
    if path.suffix == ".safetensors" or is_safetensors(view(path)):
        return {"": read_safetensors(path)}
    data = view(path)
    try:
        found = state_dicts(read_torch_save(data, Budget(len(data))))
        arrays = {place: {name: one.array() for name, one in inside.items()} for place, inside in found.items()}
    except ImporterError as error:
        raise ImporterError(f"{path} is no state dict that can be read: {error}") from error
    return with_names(arrays)


SHARD = re.compile(r"-\d{5}-of-\d{5}(\.\w+)?\.(safetensors|bin)$")
MAX_SHARDS = 1024


def read_index(index: Path) -> dict[str, str]:
    """The file of each array, by the array's name.

    Args:
        index: a JSON object with "weight_map", from an array's name to its file's.

    Raises:
        ImporterError: where it is damaged, or names anything but files of weights beside it.
    """
    placed = json_file(index).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(file, str) for file in placed.values()):
        raise ImporterError(
            f'{index} has no "weight_map" from the names of arrays to those of files; expected the index of weights in '
            "several files. Download it again."
        )
    names, ending = sorted(set(placed.values())), ".bin" if ".bin.index" in index.name else ".safetensors"
    strange = [name for name in names if Path(name).name != name or not name.endswith(ending)]
    if strange or not 1 <= len(names) <= MAX_SHARDS:
        shown = f", such as {ascii(strange[0])[:80]}" if strange else ""
        raise ImporterError(
            f"{index} speaks of {len(names)} files{shown}; expected 1 to {MAX_SHARDS} {ending} files beside it. "
            "Download it again."
        )
    return placed


def read_shards(index: Path, placed: Mapping[str, str], files: Iterable[Path]) -> dict[str, np.ndarray]:
    """The arrays of all files by name, in the index's order, as views of the files.

    Args:
        index: where the index is, for messages.
        placed: what it says.
        files: those that it speaks of, each within reach.

    Raises:
        ImporterError: where a file is damaged, or holds others than the index says.
    """
    found = {file.name: read_weights(file).get("", {}) for file in files}
    for name, file in placed.items():
        if name not in found[file]:
            raise ImporterError(
                f"{index} says that {ascii(name)[:80]} lies in {file}, which does not hold it. The files are of "
                "different checkpoints, or one is damaged: download them again."
            )
    contained = sum(map(len, found.values()))
    if contained != len(placed):
        raise ImporterError(
            f"{index} speaks of {len(placed):,} arrays, and its files hold {contained:,}; expected the same. The files "
            "are of different checkpoints: download them again."
        )
    return {name: found[file][name] for name, file in placed.items()}
