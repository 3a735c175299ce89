"""Columns of tables: what is read, and the file and line of what is wrong."""

import gzip
import json
import zipfile

import numpy as np
import pytest

from pplemd.data import table
from pplemd.errors import DataError

SCHOOLS = {"J": 3, "y": [28.5, 8, -3], "matrix": [[1, 2], [3, 4]], "name": ["a", "b", "c"]}


@pytest.mark.parametrize("packed", ["", ".zip", ".gz"])
def test_reads_json_as_it_is_and_packed(tmp_path, packed):
    path, content = tmp_path / f"schools.json{packed}", json.dumps(SCHOOLS)
    if packed == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("schools.json", content)
            archive.writestr("__MACOSX/._schools.json", b"\0\1")
    else:
        path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    found = table(path)
    assert list(found) == list(SCHOOLS)
    for name, value in SCHOOLS.items():
        np.testing.assert_array_equal(found[name], value)
    assert (found["y"].dtype, found["J"].dtype, found["J"].shape) == (np.float64, np.int64, ())


READ = {
    "a.jsonl": '{"y": 1, "x": [1, 2]}\n\n{"x": [3, 4], "y": 2}\n',
    "b.json": '[{"y": 1, "x": [1, 2]}, {"y": 2, "x": [3, 4]}]',
}


@pytest.mark.parametrize("name", READ)
def test_objects_are_rows(tmp_path, name):
    (tmp_path / name).write_text(READ[name])
    found = table(tmp_path / name)
    assert (found["y"].tolist(), found["x"].tolist()) == ([1, 2], [[1, 2], [3, 4]])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_of_numbers_and_text(tmp_path, delimiter):
    rows = [["", "y", "county", "x"], ["1", "1.5", '"a, b"', "7"], ["2", "-2e1", '"c"', "8"]]
    (tmp_path / "a.csv").write_text("\ufeff" + "\r\n".join(delimiter.join(row) for row in rows), encoding="utf-8")
    found = table(tmp_path / "a.csv", ["y", "x", "county"])
    assert {name: column.tolist() for name, column in found.items()} == {
        "y": [1.5, -20.0], "x": [7, 8], "county": ["a, b", "c"],
    }  # fmt: skip


def test_what_is_not_asked_for_is_not_checked(tmp_path):
    (tmp_path / "a.csv").write_text("y,x\n1,NA\n2,3\n")
    assert table(tmp_path / "a.csv", ["y"])["y"].tolist() == [1, 2]
    with pytest.raises(DataError, match="no column 'z', expected one of y, x"):
        table(tmp_path / "a.csv", ["z"])


BAD = {
    "nan.json": ('{"t": "NaN", "y": [1, 2,\n NaN]}', r"line 2, y\[2\]: found nan"),
    "null.json": ('{"y": [[1], [2]],\n"x": [1,\nnull, NaN]}', r"line 3, x\[1\]: found None"),
    "infinite.json": ('{"y": [1, 1e999]}', r"y\[1\]: found inf"),
    "cut.json": ('{"x": 1,\n"y": [1, 2\n', "line 3: found no JSON"),
    "ragged.json": ('{"y": [[1, 2], [3]]}', "y: found lists of several lengths"),
    "mixed.json": ('{"y": [1, "a"]}', r"y\[1\]: found a str"),
    "deep.json": ('{"y": ' + "[" * 90 + "]" * 90 + "}", "found lists in lists"),
    "object.json": ('{"y": {"a": 1}}', "y: found a dict"),
    "large.json": ('{"y": 123456789012345678901234}', "y: found whole numbers beyond 64 bits"),
    "number.json": ("3", "found a int"),
    "nan.jsonl": ('{"y": 1}\n\n{"y": NaN}\n', "line 3, y: found nan"),
    "cut.jsonl": ('{"y": 1}\n{"y": }\n', "line 2: found no JSON"),
    "unlike.jsonl": ('{"y": 1}\n{"z": 2}\n', "line 2: found the names z"),
    "missing.csv": ("y,x\n1,2\n3,NA\n", "line 3, x: found 'NA'"),
    "empty.csv": ("y,x\n1,2\n3,\n", "line 3, x: found ''"),
    "word.csv": ('y,x\n"a\nb",2\n"c",oops\n', "line 4, x: found 'oops'"),
    "short.csv": ("y,x\n1,2\n3\n", "line 3: found 1 values, expected 2"),
    "nameless.csv": ("1,2\n3,4\n", "line 1: found 1, 2, expected a name"),
    "twice.csv": ("y,y\n3,4\n", "line 1: found y, y"),
    "latin.csv": (b"y\na\n\xff\n", "line 3: found no UTF-8 text"),
    "bare.csv": ("y\n", "found 1 lines, expected names and at least one row"),
    "words.txt": ("1 2", "found no table by its name, expected one of .json"),
}


@pytest.mark.parametrize("name", BAD)
def test_names_file_and_line(tmp_path, name):
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=f"{name}: {message}"):
        table(tmp_path / name)


def test_files_that_cannot_be_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.json", "{}")
        archive.writestr("b.json", "{}")
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b"{}")[:8])
    for name, message in {
        "two.zip": "found a.json, b.json in the zip", "cut.json.gz": "unreadable", "gone.json": "check the path",
    }.items():  # fmt: skip
        with pytest.raises(DataError, match=message):
            table(tmp_path / name)
