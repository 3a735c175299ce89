"""What each pickle instruction does to the machine; those that are missing here are refused by name."""

import pickletools
import struct
from collections.abc import Callable
from typing import Any

from pplemd.errors import ImporterError
from pplemd.importers.pickles.machine import PROTOCOLS, Machine, plain_key

MAX_NAME = 256  # characters of a module's or a class's name
MAX_NUMBER = 64  # characters of a number written as text
MAX_INTEGER = 16  # bytes of an integer; the largest, torch's magic number, has ten
MAX_TEXT = 256 * 2**20  # bytes of one text; protocols 0 to 2 write a tensor's bytes as text
SMALL = 64  # bytes up to which bytes are copied, so that they can be compared

Instruction = Callable[[Machine], None]


def run(machine: Machine) -> Any:
    """Follow a stream from its first instruction to its STOP; the machine's cursor is left behind it.

    Returns:
        What the pickle holds, in stand-ins.

    Raises:
        ImporterError: where the stream is damaged, or asks for what is refused.
    """
    while True:
        machine.budget.step()
        code = machine.cursor.take(1)[0]
        if code == STOP:
            value = machine.pop()
            if machine.stack or machine.marks:
                raise ImporterError("its pickle stops with values left over. It is damaged: download it again.")
            return value
        instruction = INSTRUCTIONS.get(code)
        if instruction is None:
            raise ImporterError(_unknown(code, machine.cursor.position - 1))
        instruction(machine)


def _unknown(code: int, position: int) -> str:
    known = next((one for one in pickletools.opcodes if one.code == chr(code)), None)
    if known is None:
        return f"byte {position:,} is no pickle instruction ({code:#04x}). It is damaged, or no pickle."
    return (
        f"it uses the pickle instruction {known.name} at byte {position:,}, which no checkpoint needs. It was refused, "
        "and nothing was executed."
    )


def _protocol(machine: Machine) -> None:
    version = machine.cursor.unsigned(1)
    if version > PROTOCOLS:
        raise ImporterError(f"it is of pickle protocol {version}; expected 0 to {PROTOCOLS}. It may be no pickle.")


def _frame(machine: Machine) -> None:
    size = machine.cursor.unsigned(8)
    if size > machine.cursor.left:
        machine.cursor.take(size)  # says that it ends in the middle


def _number(kind: type, text: bytes) -> Any:
    try:
        return kind(text.decode("ascii"))
    except ValueError as error:
        raise ImporterError(f"it has {ascii(text)[2:-1]!r} for a number. It is damaged: download it again.") from error


def _int(machine: Machine) -> None:
    line = machine.cursor.line(MAX_NUMBER)
    truths = {b"00": False, b"01": True}
    machine.push(truths[line] if line in truths else _number(int, line))


def _long(machine: Machine) -> None:
    machine.push(_number(int, machine.cursor.line(MAX_NUMBER).removesuffix(b"L")))


def _float(machine: Machine) -> None:
    machine.push(_number(float, machine.cursor.line(MAX_NUMBER)))


def _binary_float(machine: Machine) -> None:
    machine.push(struct.unpack(">d", machine.cursor.take(8))[0])


def _unsigned(size: int) -> Instruction:
    return lambda machine: machine.push(machine.cursor.unsigned(size))


def _signed_four(machine: Machine) -> None:
    machine.push(int.from_bytes(machine.cursor.take(4), "little", signed=True))


def _binary_long(size: int) -> Instruction:
    def instruction(machine: Machine) -> None:
        length = machine.cursor.unsigned(size)
        if length > MAX_INTEGER:
            raise ImporterError(f"it has an integer of {length:,} bytes; expected at most {MAX_INTEGER}.")
        machine.push(int.from_bytes(machine.cursor.take(length), "little", signed=True))

    return instruction


def _text(machine: Machine, raw: memoryview | bytes, encoding: str) -> None:
    machine.budget.spend(len(raw))
    try:
        machine.push(str(raw, encoding, "surrogatepass" if encoding == "utf-8" else "strict"))
    except UnicodeError as error:
        raise ImporterError("it has a text that is no Unicode. It is damaged: download it again.") from error


def _binary_text(size: int) -> Instruction:
    def instruction(machine: Machine) -> None:
        length = machine.cursor.unsigned(size)
        raw = machine.cursor.take(length)
        if length > MAX_TEXT:
            raise ImporterError(f"it has a text of {length:,} bytes; expected at most {MAX_TEXT:,}.")
        _text(machine, raw, "utf-8")

    return instruction


def _line_text(machine: Machine) -> None:
    _text(machine, machine.cursor.line(MAX_TEXT), "raw-unicode-escape")


def _bytes(size: int) -> Instruction:
    def instruction(machine: Machine) -> None:
        view = machine.cursor.take(machine.cursor.unsigned(size))
        machine.push(bytes(view) if len(view) <= SMALL else view)

    return instruction


def _tuple_of(count: int) -> Instruction:
    return lambda machine: machine.push(tuple(machine.pop() for _ in range(count))[::-1])


def _append(machine: Machine) -> None:
    item = machine.pop()
    machine.top(list).append(item)


def _appends(machine: Machine) -> None:
    items = machine.since_mark()
    machine.top(list).extend(items)


def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.top(dict)[plain_key(key)] = value


def _set_items(machine: Machine) -> None:
    items = machine.items(machine.since_mark())
    machine.top(dict).update(items)


def _add_items(machine: Machine) -> None:
    items = [plain_key(item) for item in machine.since_mark()]
    machine.top(set).update(items)


def _get(machine: Machine) -> None:
    machine.recall(_number(int, machine.cursor.line(MAX_NUMBER)))


def _put(machine: Machine) -> None:
    machine.remember(_number(int, machine.cursor.line(MAX_NUMBER)))


def _global(machine: Machine) -> None:
    module, name = (str(machine.cursor.line(MAX_NAME), "utf-8", "replace") for _ in range(2))
    machine.name(module, name)


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _persistent(machine: Machine) -> None:
    if machine.persistent is None:
        raise ImporterError("it has a persistent id outside a torch stream. It was refused; nothing was executed.")
    machine.push(machine.persistent(machine.pop()))


def _call(machine: Machine) -> None:
    machine.call(machine.pop())


_BY_NAME: dict[str, Instruction] = {
    "PROTO": _protocol,
    "FRAME": _frame,
    "MARK": Machine.mark,
    "NONE": lambda machine: machine.push(None),
    "NEWTRUE": lambda machine: machine.push(True),
    "NEWFALSE": lambda machine: machine.push(False),
    "INT": _int,
    "LONG": _long,
    "FLOAT": _float,
    "BINFLOAT": _binary_float,
    "BININT": _signed_four,
    "BININT1": _unsigned(1),
    "BININT2": _unsigned(2),
    "LONG1": _binary_long(1),
    "LONG4": _binary_long(4),
    "UNICODE": _line_text,
    "SHORT_BINUNICODE": _binary_text(1),
    "BINUNICODE": _binary_text(4),
    "BINUNICODE8": _binary_text(8),
    "SHORT_BINBYTES": _bytes(1),
    "BINBYTES": _bytes(4),
    "BINBYTES8": _bytes(8),
    "EMPTY_TUPLE": lambda machine: machine.push(()),
    "TUPLE": lambda machine: machine.push(tuple(machine.since_mark())),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "EMPTY_LIST": lambda machine: machine.push([]),
    "LIST": lambda machine: machine.push(machine.since_mark()),
    "APPEND": _append,
    "APPENDS": _appends,
    "EMPTY_DICT": lambda machine: machine.push({}),
    "DICT": lambda machine: machine.push(dict(machine.items(machine.since_mark()))),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "EMPTY_SET": lambda machine: machine.push(set()),
    "ADDITEMS": _add_items,
    "FROZENSET": lambda machine: machine.push(frozenset(map(plain_key, machine.since_mark()))),
    "GET": _get,
    "BINGET": lambda machine: machine.recall(machine.cursor.unsigned(1)),
    "LONG_BINGET": lambda machine: machine.recall(machine.cursor.unsigned(4)),
    "PUT": _put,
    "BINPUT": lambda machine: machine.remember(machine.cursor.unsigned(1)),
    "LONG_BINPUT": lambda machine: machine.remember(machine.cursor.unsigned(4)),
    "MEMOIZE": lambda machine: machine.remember(len(machine.memo)),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "BUILD": Machine.state,
    "BINPERSID": _persistent,
}
STOP = ord(".")
INSTRUCTIONS = {ord(op.code): _BY_NAME[op.name] for op in pickletools.opcodes if op.name in _BY_NAME}
