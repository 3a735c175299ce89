"""Files as views: mapped into memory, read where they are looked at, never copied as a whole."""

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
