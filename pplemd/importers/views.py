"""Files as views, never copied as a whole; and formats that are not read, known by how they begin."""

import dataclasses
import io
import mmap
import stat
import zipfile
from pathlib import Path

from pplemd.errors import ImporterError

MAX_DIRECTORY = 4 * 2**20  # bytes of a zip's directory: some 40,000 entries
MAX_ENTRIES = 20_000  # of a zip: one for each array


def view(path: Path) -> memoryview:
    """The bytes of a regular file, read as they are looked at.

    Raises:
        ImporterError: where it is missing, empty, or no regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for ever
            raise ImporterError(f"{path} is no regular file; expected a checkpoint. Check the path.")
        if path.stat().st_size == 0:
            raise ImporterError(f"{path} is empty; expected a checkpoint. Download it again.")
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except FileNotFoundError as error:
        raise ImporterError(f"{path} does not exist; expected a checkpoint. Check the path.") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise ImporterError(f"{path} cannot be read ({error}). Check the path and its permissions.") from error


class ViewFile(io.RawIOBase):
    """A view as the file that zipfile wants; no read is larger than a sound zip's directory.

    Args:
        data: the bytes.
    """

    def __init__(self, data: memoryview):
        self._data = data
        self._position = 0

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It has positions."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}[whence]
        if base + offset < 0:
            raise OSError("a position before the file")
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next bytes.

        Raises:
            ImporterError: where they are more than a zip's directory may have.
        """
        end = len(self._data) if size < 0 else min(self._position + size, len(self._data))
        if end - self._position > MAX_DIRECTORY:
            raise ImporterError(f"its zip's directory has more than {MAX_DIRECTORY:,} bytes; expected far fewer.")
        found = bytes(self._data[self._position : end])
        self._position = max(self._position, end)
        return found


def zip_entries(data: memoryview) -> list[zipfile.ZipInfo]:
    """What a zip says that it holds, no name twice.

    Raises:
        ImporterError: where it is damaged, or holds too many.
    """
    try:
        with zipfile.ZipFile(ViewFile(data)) as archive:
            found = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError, OverflowError) as error:
        raise ImporterError(f"its zip is damaged ({error}). Download it again.") from error
    if len(found) > MAX_ENTRIES or len({entry.filename for entry in found}) < len(found):
        raise ImporterError(f"its zip has {len(found):,} entries, or a name twice; expected each array once.")
    return found


FROM_JAX = "Save its arrays by name with numpy.savez, and fill a network with them: docs/teachers.md."
FROM_TORCH = 'Give the PyTorch weights that it was made from: docs/teachers.md, "Any PyTorch module", tells the way.'
FROM_KERAS = "Save its arrays by name with numpy.savez, and write its forward pass in JAX: docs/teachers.md."
UNPACK = "Unpack it, and give what is inside."


@dataclasses.dataclass(frozen=True)
class Foreign:
    """One format.

    Attributes:
        what: what it is called.
        repair: what to do.
        suffixes: how its files' names end.
        begins: how they begin, at a place.
        at: that place, in bytes.
        inside: a name that its folders or zips hold.
    """

    what: str
    repair: str
    suffixes: tuple[str, ...] = ()
    begins: tuple[bytes, ...] = ()
    at: int = 0
    inside: tuple[str, ...] = ()


FORMATS = (
    Foreign(
        "a pointer of Git LFS, not the file itself", "Fetch it: git lfs pull.", begins=(b"version https://git-lfs",)
    ),
    Foreign("GGUF", FROM_TORCH, (".gguf", ".ggml"), (b"GGUF", b"ggjt", b"lmgg", b"tjgg")),
    Foreign("HDF5 (Keras)", FROM_KERAS, (".h5", ".hdf5"), (b"\x89HDF\r\n\x1a\n",)),
    Foreign("a Keras model", FROM_KERAS, (".keras",), inside=("model.weights.h5",)),
    Foreign("a TensorFlow Lite model", FROM_KERAS, (".tflite",), (b"TFL3",), at=4),
    Foreign("a TensorFlow SavedModel", FROM_KERAS, inside=("saved_model.pb", "saved_model.pbtxt")),
    Foreign("a TensorFlow checkpoint", FROM_KERAS, (".ckpt.index", ".data-00000-of-00001", ".pb", ".meta")),
    Foreign("TorchScript", FROM_TORCH, inside=("constants.pkl",)),
    Foreign("an exported PyTorch program", FROM_TORCH, (".pt2",), inside=("serialized_exported_program.json",)),
    Foreign("an ONNX graph", FROM_TORCH, (".onnx", ".ort")),
    Foreign("a Core ML model", FROM_TORCH, (".mlmodel", ".mlpackage"), inside=("Manifest.json",)),
    Foreign("OpenVINO's or TensorRT's", FROM_TORCH, (".xml", ".engine", ".trt", ".plan")),
    Foreign("Flax's msgpack", FROM_JAX, (".msgpack",), inside=("flax_model.msgpack", "diffusion_flax_model.msgpack")),
    Foreign(
        "an Orbax or Flax checkpoint",
        FROM_JAX,
        (".ocdbt", ".zarray"),
        inside=("_METADATA", "_CHECKPOINT_METADATA", "_CHECKPOINT", "manifest.ocdbt", ".zgroup"),
    ),
    Foreign("a numpy array", "Give an .npz with all arrays of the network by name.", (".npy",), (b"\x93NUMPY",)),
    Foreign(
        "a packed file", UNPACK, (".gz", ".xz", ".bz2", ".7z", ".tar"), (b"\x1f\x8b", b"\xfd7zXZ", b"BZh", b"7z\xbc")
    ),
    Foreign("a packed file", UNPACK, begins=(b"ustar",), at=257),
    Foreign("a web page", "Download the file itself.", (".html",), (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML")),
    Foreign("a picture", "Give a checkpoint.", (), (b"\x89PNG", b"\xff\xd8\xff", b"GIF8")),
    Foreign(
        "text",
        "A configuration or an index of weights is read with its weights: give their folder.",
        (".json", ".yaml"),
    ),
)
MSGPACK = (*range(0x81, 0x90), 0xDE, 0xDF)  # how a dictionary begins in msgpack; pickles begin with 0x80
ONNX = b"\x08"  # the version of a graph's format, a small number, and what made it


def foreign(path: Path, head: bytes) -> Foreign | None:
    """The format of a file that is none of those that are read.

    Args:
        path: the file.
        head: its first bytes, 512 or more.
    """
    for one in FORMATS:
        if any(head[one.at :].startswith(begin) for begin in one.begins):
            return one
    if head[:1] == ONNX and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a") and 0 < head[1] < 32:
        return _called("an ONNX graph")
    if head[0] in MSGPACK:
        return _called("Flax's msgpack")
    named = path.name.lower()
    return next((one for one in FORMATS if named.endswith(one.suffixes) and one.suffixes), None)


def refuse_foreign(path: Path, data: memoryview) -> None:
    """See that a file is of a format that is read, as far as its beginning and its name tell.

    Raises:
        ImporterError: where it is of another one.
    """
    found = foreign(path, bytes(data[:512]))
    if found is None and bytes(data[:2]) == b"PK":
        names = {Path(entry.filename).name for entry in zip_entries(data)}
        found = next((one for one in FORMATS if names & set(one.inside)), None)
    if found is not None:
        raise ImporterError(
            f"{path} is no pickle and no other file that pplemd reads, but {found.what}. {found.repair}"
        )


def in_folder(folder: Path) -> str:
    """What lies in a folder instead of a checkpoint, for a message: a format that is known, or some names."""
    names = sorted(path.name for path in folder.iterdir())
    known = next((one for one in FORMATS if set(one.inside) & set(names)), None)
    if known is not None:
        return f" It holds {known.what}, which pplemd does not read. {known.repair}"
    for name in names:
        one = next((one for one in FORMATS if one.suffixes and name.lower().endswith(one.suffixes)), None)
        if one is not None and one.what != "text":
            return f" It holds {ascii(name)[1:-1][:60]}, which is {one.what} and not read. {one.repair}"
    shown = ", ".join(ascii(name)[1:-1][:40] for name in names[:6]) + (", ..." if len(names) > 6 else "")
    return f" It holds {shown}." if names else " It is empty."


def _called(what: str) -> Foreign:
    return next(one for one in FORMATS if one.what == what)
