"""Named columns of numbers or text from .json, .jsonl and .csv files, also zipped."""

import csv
import gzip
import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Shaped

from pplemd.data.dataset import listed, naming
from pplemd.data.image_files import READ_ERRORS
from pplemd.errors import DataError

MAX_BYTES = 1 << 30  # of a file, unpacked: ten million rows of a hundred characters
KINDS = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv"}
_MISSING = {"", "na", "n/a", "nan", "null", "none", "?", ".", "-", "inf", "+inf", "-inf", "infinity", "-infinity"}

MOST_AXES = 64  # of an array of NumPy
_REMOVE = "remove that row, or name the columns that are needed by columns="

Index = tuple[int, ...]
Place = Callable[[Index], str]  # where the value of an index of a column lies


def table(path: str | PathLike[str], columns: Sequence[str] | None = None) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The named columns of a file: numbers or text, single values (shape ()) and nested lists too.

        data = em.data.table("radon_mn.json.zip")
        y, J = data["log_radon"], int(data["J"])

    Reads .json (an object of values, as posteriordb's and Stan's data, or a list of objects, as posteriordb's draws, a
    row each), .jsonl (an object a line) and .csv or .tsv (names in the first line), each as it is, in a .zip alone or
    as .gz. Whole numbers become int64, other numbers float64.

    Args:
        path: the file.
        columns: names of those that are read and checked; by default all.

    Raises:
        DataError: a file that cannot be read; a value that is missing, NaN or of another kind than its column's. It
            names the file, and the line or index.
    """
    name, content = _content(Path(path))
    kind = KINDS.get(PurePosixPath(name).suffix.lower())
    with naming(path if name == Path(path).name else f"{path}, {name}"):
        if kind is None:
            raise DataError(
                f"found no table by its name, expected one of {', '.join(KINDS)}, or .zip or .gz: rename it"
            )
        text = _text(content)
        return {"json": _json, "jsonl": _json_lines, "csv": _csv}[kind](text, columns)


def _chosen(names: list[str], columns: Sequence[str] | None) -> list[str]:
    """The columns that are wanted, or all of them."""
    absent = [column for column in columns or () if column not in names]
    if absent:
        raise DataError(f"found no column {absent[0]!r}, expected one of {listed(names, 20)}: correct it")
    return names if columns is None else list(columns)


def _content(path: Path) -> tuple[str, bytes]:
    """The name that says the kind of a file, and its content, unpacked."""
    try:
        if zipfile.is_zipfile(path):
            return _unzipped(path)
        with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise DataError(f"found no file {path}, expected a table: check the path") from error
    except READ_ERRORS as error:
        raise DataError(f"{path}: found it unreadable ({error}), expected a whole file: check or replace it") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: found more than {MAX_BYTES} bytes, expected at most so many: split the file")
    return path.stem if path.suffix.lower() == ".gz" else path.name, content


def _unzipped(path: Path) -> tuple[str, bytes]:
    """The one table of a zip."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if PurePosixPath(name).suffix.lower() in KINDS]
        names = [name for name in names if not PurePosixPath(name).name.startswith(".")]  # what macOS keeps beside
        if len(names) != 1:
            raise DataError(
                f"{path}: found {listed(names or archive.namelist()) or 'nothing'} in the zip, expected one file "
                f"ending in {', '.join(KINDS)}: unpack it and give one"
            )
        if archive.getinfo(names[0]).file_size > MAX_BYTES:
            raise DataError(f"{path}: found more than {MAX_BYTES} bytes, expected at most so many: split the file")
        return names[0], archive.read(names[0])


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"line {line}: found no UTF-8 text (byte {error.start}), expected it: save it so") from error


def _json(text: str, columns: Sequence[str] | None) -> dict[str, np.ndarray]:
    value = _parsed(text, 1)
    if isinstance(value, list):
        return _stacked([(f"[{number}]", row) for number, row in enumerate(value)], columns)
    if not isinstance(value, dict):
        raise DataError(f"found a {type(value).__name__}, expected an object of named values: name them")

    def place(name: str) -> Place:
        return lambda index: f"{_line(text, value, (name, index))}{name}{_subscript(index)}"

    return {name: _array(value[name], place(name)) for name in _chosen(list(value), columns)}


def _json_lines(text: str, columns: Sequence[str] | None) -> dict[str, np.ndarray]:
    lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return _stacked([(f"line {number}", _parsed(line, number)) for number, line in lines], columns)


def _parsed(text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(f"line {line}: found no JSON ({error.msg}, column {error.colno}): correct it") from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"found no JSON that can be read ({error}), expected numbers: make it again") from error


def _line(text: str, value: dict[str, Any], at: tuple[str, Index]) -> str:
    """The line of a missing value of an object, in words; nothing where it is not missing, or not known.

    JSON keeps its order, so that the n-th missing value is the n-th word for one outside of its texts.
    """
    places = [(name, index) for name, column in value.items() for index, leaf in _leaves(column, ()) if _lacks(leaf)]
    words = [match for match in re.finditer(r'"(?:[^"\\]|\\.)*"|(NaN|Infinity|null)', text) if match[1]]
    if at not in places or len(places) != len(words):
        return ""
    start = words[places.index(at)].start()
    return f"line {text.count(chr(10), 0, start) + 1}, "


def _lacks(leaf: Any) -> bool:
    return leaf is None or (isinstance(leaf, float) and not math.isfinite(leaf))


def _stacked(rows: list[tuple[str, Any]], columns: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Columns of objects of the same names, one a row; each row comes with its place."""
    if not rows:
        raise DataError("found no rows, expected at least one: check the file")
    for where, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{where}: found a {type(row).__name__}, expected an object of named values: name them")
    for where, row in rows:
        unlike = sorted(row.keys() ^ rows[0][1].keys())
        if unlike:
            raise DataError(
                f"{where}: found the names {listed(list(row))}, expected those of {rows[0][0]}, which differ in "
                f"{listed(unlike)}: give each row the same"
            )

    def place(name: str) -> Place:
        return lambda index: f"{rows[index[0]][0]}, {name}{_subscript(index[1:])}" if index else name

    return {name: _array([row[name] for _, row in rows], place(name)) for name in _chosen(list(rows[0][1]), columns)}


def _csv(text: str, columns: Sequence[str] | None) -> dict[str, np.ndarray]:
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    try:
        lines = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise DataError(f"line {reader.line_num}: found no row ({error}), expected values: correct it") from error
    if len(lines) < 2:
        raise DataError(f"found {len(lines)} lines, expected names and at least one row: check the file")
    names = [name.strip() for name in lines[0][1]]
    if len(set(names)) < len(names) or all(_is_number(name) for name in names):
        raise DataError(f"line 1: found {listed(names)}, expected a name for each column, each once: add them")
    for number, row in lines:
        if len(row) != len(names):
            raise DataError(f"line {number}: found {len(row)} values, expected {len(names)}, as line 1: correct it")
    numbers, rows = [number for number, _ in lines[1:]], [row for _, row in lines[1:]]
    found = {}
    for name in _chosen(names, columns):
        at = names.index(name)
        found[name] = _column([row[at].strip() for row in rows], name, numbers)
    return found


def _column(cells: list[str], name: str, lines: list[int]) -> np.ndarray:
    """One column of cells: text where no cell is a number, else numbers."""

    def place(index: Index) -> str:
        return f"line {lines[index[0]]}, {name}" if index else name

    missing = next((i for i, cell in enumerate(cells) if cell.lower() in _MISSING), None)
    if missing is not None:
        raise DataError(f"{place((missing,))}: found {cells[missing]!r}, expected a value: {_REMOVE}")
    numbers = [_is_number(cell) for cell in cells]
    if not any(numbers):
        return np.array(cells)
    if not all(numbers):
        other = numbers.index(False)
        raise DataError(f"{place((other,))}: found {cells[other]!r}, expected a number, as others here: correct it")
    whole = all(re.fullmatch(r"[+-]?\d+", cell) for cell in cells)
    return _array([int(cell) if whole else float(cell) for cell in cells], place)


def _is_number(cell: str) -> bool:
    try:
        return "_" not in cell and math.isfinite(float(cell))
    except ValueError:
        return False


def _array(value: Any, place: Place) -> np.ndarray:
    """An array of a number, a text, or lists of them, nested."""
    first: dict[str, Index] = {}  # of what kind of value -> the first index
    for index, leaf in _leaves(value, ()):
        if _lacks(leaf):
            raise DataError(f"{place(index)}: found {leaf}, expected a value: {_REMOVE}")
        first.setdefault("number" if isinstance(leaf, int | float) else type(leaf).__name__, index)
    odd = [kind for kind in first if kind not in ("number", "str")] or list(first)[1:]
    if odd:
        raise DataError(f"{place(first[odd[0]])}: found a {odd[0]}, expected numbers, or texts, alone: separate them")
    try:
        found = np.array(value)
    except ValueError as error:
        raise DataError(f"{place(())}: found lists of several lengths, expected one: fill or split them") from error
    if found.dtype.kind in "Ou":
        raise DataError(f"{place(())}: found whole numbers beyond 64 bits, expected smaller ones: write them as 1e20")
    return found


def _leaves(value: Any, index: Index) -> Iterator[tuple[Index, Any]]:
    """The values of nested lists, with their indices."""
    if not isinstance(value, list):
        yield index, value
        return
    if len(index) == MOST_AXES:
        raise DataError(f"found lists in lists, more than {MOST_AXES} deep, expected fewer: NumPy has no such arrays")
    for number, item in enumerate(value):
        yield from _leaves(item, (*index, number))


def _subscript(index: Index) -> str:
    return "".join(f"[{number}]" for number in index)
