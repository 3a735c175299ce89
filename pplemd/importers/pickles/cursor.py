"""Bytes read from the front, each length checked before it is used."""

from pplemd.errors import ImporterError

WINDOW = 4096  # bytes searched at a time for the end of a line


class Cursor:
    """A position in bytes that are never copied.

    Args:
        data: the bytes.
        position: where to begin.
    """

    def __init__(self, data: memoryview, position: int = 0):
        self.data = data
        self.position = position

    @property
    def left(self) -> int:
        """Bytes that are left."""
        return len(self.data) - self.position

    def take(self, count: int) -> memoryview:
        """The next bytes, as a view.

        Raises:
            ImporterError: where fewer are left.
        """
        if count > self.left:
            raise ImporterError(
                f"it ends in the middle: {count:,} bytes were announced at byte {self.position:,}, and {self.left:,} "
                "are left. Download it again."
            )
        start = self.position
        self.position += count
        return self.data[start : self.position]

    def unsigned(self, size: int) -> int:
        """A little-endian number of some bytes."""
        return int.from_bytes(self.take(size), "little")

    def line(self, limit: int) -> bytes:
        """The bytes before the next line feed, which is passed over.

        Raises:
            ImporterError: where there is none within `limit` bytes.
        """
        start, end = self.position, min(self.position + limit + 1, len(self.data))
        while start < end:
            found = bytes(self.data[start : min(start + WINDOW, end)]).find(b"\n")
            if found >= 0:
                line = bytes(self.data[self.position : start + found])
                self.position = start + found + 1
                return line
            start += WINDOW
        if end == len(self.data):
            raise ImporterError("it ends in the middle of a line. Download it again.")
        raise ImporterError(f"a line of more than {limit:,} bytes was found; expected a short one.")
