"""A pickle as data: a machine that can call nothing but the names of a closed table, and the bytes that it reads."""

from collections.abc import Callable, Mapping
from typing import Any

from pplemd.errors import ImporterError
from pplemd.importers.pickles.stand_ins import accept_state

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


Names = Mapping[tuple[str, str], Any]  # a function of budget and arguments, or a value

MAX_INSTRUCTIONS = 1_000_000  # the largest EDM checkpoint, 553 tensors, has some 60,000
MAX_STACK = 20_000  # pickles append in batches of 1,000
MAX_MARKS = 200  # open collections, one in another: a U-Net has about 40
PROTOCOLS = 5  # the highest that is known
SPARE_BYTES = 2**20  # new memory that any file may ask for
MAX_MEMO = 2**32  # kept values: the binary instructions count in four bytes
KEY_TYPES = (str, int, float, bool, type(None))  # hashed in one step; nested tuples can take 2^depth
MAX_KEY = 2**61 - 1  # Python hashes integers modulo this prime: of those below it, no two share a hash


class Budget:
    """What may still be spent on one file, with all streams inside it.

    Args:
        size: bytes of the file.
    """

    def __init__(self, size: int):
        self.instructions = MAX_INSTRUCTIONS
        self.memory = 4 * size + SPARE_BYTES  # text takes up to four bytes a character
        self.tensor_bytes = 2 * size + SPARE_BYTES  # all tensors together; those that share a storage count twice

    def step(self, count: int = 1) -> None:
        """One instruction, or one that looks at so many values.

        Raises:
            ImporterError: where there were too many.
        """
        self.instructions -= count
        if self.instructions < 0:
            raise ImporterError(f"it has more than {MAX_INSTRUCTIONS:,} pickle instructions; expected far fewer.")

    def spend(self, size: int) -> None:
        """New memory.

        Raises:
            ImporterError: where it is more than the file accounts for.
        """
        self.memory -= size
        if self.memory < 0:
            raise ImporterError("it unpacks to far more bytes than it has; expected plain weights.")

    def claim(self, size: int) -> None:
        """A tensor of so many bytes.

        Raises:
            ImporterError: where all together are more than the file accounts for.
        """
        self.tensor_bytes -= size
        if self.tensor_bytes < 0:
            raise ImporterError("its tensors claim far more bytes than the file has; expected plain weights.")


class Machine:
    """The state of one pickle stream.

    Args:
        cursor: where the stream begins.
        names: what each name becomes, by module and name: a function of budget and arguments, or a value.
        budget: what may still be spent.
        persistent: what a persistent id stands for, where the stream may have them.
    """

    def __init__(self, cursor: Cursor, names: Names, budget: Budget, persistent: Callable[[Any], Any] | None = None):
        self.cursor = cursor
        self.names = names
        self.budget = budget
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        if len(self.stack) >= MAX_STACK:
            raise ImporterError(f"it has more than {MAX_STACK:,} values on the pickle's stack; expected far fewer.")
        self.stack.append(value)

    def pop(self) -> Any:
        """Take the top value, above the newest mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ImporterError("it takes a value from an empty pickle stack. It is damaged: download it again.")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        """The top value, which must be of a type."""
        value = self.pop()
        if not isinstance(value, kind):
            raise ImporterError(f"it fills a {type(value).__name__} as if it were a {kind.__name__}. It is damaged.")
        self.stack.append(value)
        return value

    def mark(self) -> None:
        """Open a collection."""
        if len(self.marks) >= MAX_MARKS:
            raise ImporterError(f"it has more than {MAX_MARKS} collections inside each other; expected far fewer.")
        self.marks.append(len(self.stack))

    def since_mark(self) -> list[Any]:
        """Take all values since the newest mark, and the mark."""
        if not self.marks:
            raise ImporterError("it closes a collection that it never opened. It is damaged: download it again.")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def remember(self, index: int) -> None:
        """Keep the top value under a number.

        Raises:
            ImporterError: where the number is one that no pickle counts to.
        """
        if not 0 <= index < MAX_MEMO:
            raise ImporterError(f"it keeps a value under a number of {index.bit_length()} bits; expected at most 32.")
        value = self.pop()
        self.stack.append(value)
        self.memo[index] = value

    def recall(self, index: int) -> None:
        """Put a kept value on the stack."""
        if index not in self.memo:
            raise ImporterError(f"it asks for value {index}, which it never kept. It is damaged: download it again.")
        self.push(self.memo[index])

    def name(self, module: Any, name: Any) -> None:
        """Put the stand-in of a name on the stack.

        Raises:
            ImporterError: where the table does not hold it.
        """
        found = self.names.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if found is None:
            raise ImporterError(
                f"it asks for {_shown(module)}.{_shown(name)}, which no checkpoint of this kind needs. It was refused, "
                "and nothing was executed. Do not load it elsewhere unless you trust its publisher. If it is a module "
                "or an object of your own, save its state dict alone: torch.save(module.state_dict(), PATH)."
            )
        self.push(found)

    def call(self, arguments: Any) -> None:
        """Call the stand-in on top of the stack."""
        function = self.pop()
        if not callable(function) or not isinstance(arguments, tuple):
            raise ImporterError(
                f"it calls a {type(function).__name__} with a {type(arguments).__name__}; expected one of the names "
                "that checkpoints need. It was refused, and nothing was executed."
            )
        self.push(function(self.budget, *arguments))

    def state(self) -> None:
        """Give a state to the value below it."""
        state = self.pop()
        value = self.pop()
        self.budget.step(len(state) if isinstance(state, dict) else 1)
        accept_state(value, state)
        self.push(value)

    def items(self, values: list[Any]) -> list[tuple[Any, Any]]:
        """Keys and values, the keys plain."""
        if len(values) % 2:
            raise ImporterError("it has a key without a value. It is damaged: download it again.")
        return [(plain_key(key), value) for key, value in zip(values[::2], values[1::2], strict=True)]


def plain_key(key: Any) -> Any:
    """A key of a dictionary or an item of a set.

    Raises:
        ImporterError: where it is no text or number, or a number so large that many of its kind could share a hash.
    """
    if type(key) not in KEY_TYPES:
        raise ImporterError(f"it has a {type(key).__name__} for a key; expected text or a number.")
    if type(key) is int and abs(key) >= MAX_KEY:
        raise ImporterError(f"it has an integer of {key.bit_length()} bits for a key; expected one below 2^61 - 1.")
    return key


def _shown(part: Any) -> str:
    text = part if isinstance(part, str) else type(part).__name__
    return ascii(text[:60])[1:-1]
