"""Model files of every kind, good and bad."""

import sys
from pathlib import Path

import pytest

from pplemd import dsl
from pplemd.errors import DataError, ProgramError

_PROGRAM = """
import jax.numpy as jnp
import numpyro.distributions as dist
from pplemd.dsl import Program, latent, generate

class Ring(Program):
    weight: object
    def __call__(self):
        return generate("x", self.weight * latent("z", dist.Normal(jnp.zeros(2), 1.0)))
"""


def _write(folder: Path, text: str, name: str = "ring.py") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def _failure(path: Path) -> str:
    modules, folders = set(sys.modules), list(sys.path)
    with pytest.raises(ProgramError) as caught:
        dsl.load_file(path)
    assert sys.path == folders
    assert [name for name in set(sys.modules) - modules if name.startswith("_pplemd")] == []
    return str(caught.value)


def test_a_file_loads_under_a_private_name(tmp_path: Path) -> None:
    file = _write(tmp_path, _PROGRAM + "ring = Ring(jnp.ones(2))\n")
    first, second = dsl.load_file(file), dsl.load_file(str(file))
    assert first.__name__ != second.__name__
    assert sys.modules[first.__name__] is first
    assert first.__file__ == str(file)
    assert "ring" not in sys.modules
    name, program = dsl.select(first, dsl.Program)
    assert (name, type(program).__name__) == ("ring", "Ring")
    assert dsl.trace(program, shape=(2,)).sites[0].name == "z"


def test_an_error_in_a_loaded_program_names_its_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    file = _write(tmp_path / "models", _PROGRAM + "ring = Ring(jnp.ones(3))\n")
    _, program = dsl.select(dsl.load_file(file), dsl.Program)
    with pytest.raises(ProgramError, match=r"^models/ring\.py, line 9, in Ring\.__call__: found TypeError"):
        dsl.trace(program, shape=(3,))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    assert dsl.load_file(_write(tmp_path, "value = 1\n")).value == 1
    assert dsl.load_file(_write(tmp_path, "value = 2\n")).value == 2
    assert not (tmp_path / "__pycache__").exists()


def test_siblings_are_importable_and_do_not_mix(tmp_path: Path) -> None:
    """Two folders with a sibling of the same name each get their own, and neither stays behind."""
    loaded = []
    for number in (1, 2):
        folder = tmp_path / f"folder{number}"
        folder.mkdir()
        _write(folder, f"value = {number}\n", "pplemd_test_sibling.py")
        loaded.append(dsl.load_file(_write(folder, "import pplemd_test_sibling\n")))
    assert [module.pplemd_test_sibling.value for module in loaded] == [1, 2]
    assert "pplemd_test_sibling" not in sys.modules
    assert not any(entry.startswith(str(tmp_path)) for entry in sys.path)


def test_packages_deeper_in_the_folder_stay_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment inside of the folder is not a sibling: what the file imports from it is kept."""
    deeper = tmp_path / "environment"
    deeper.mkdir()
    _write(deeper, "value = 1\n", "pplemd_test_installed.py")
    monkeypatch.syspath_prepend(str(deeper))
    dsl.load_file(_write(tmp_path, "import pplemd_test_installed\n"))
    assert sys.modules.pop("pplemd_test_installed").value == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = 1\ny = (1,\nz = 2 2\n", "ring.py, line 2: '(' was never closed: 'y = (1,'"),
        ("x = 1\n  y = 2\n", "ring.py, line 2: unexpected indent: 'y = 2'"),
        ("x = '\0'\n", "ring.py"),
        (
            "import numpy\nimport no_such_package_here\n",
            "line 2, in <module>: found an import of 'no_such_package_here'",
        ),
        ("from numpy import no_such_name\n", "line 1, in <module>: found ImportError"),
        ("x = 1\n\ny = 1 / 0\n", "line 3, in <module>: found ZeroDivisionError: division by zero"),
        ("def f():\n    raise ValueError('bad')\nf()\n", "line 2, in f: found ValueError: bad"),
        ("assert False\n", "found AssertionError: (no message)"),
        ("import sys\nsys.exit(3)\n", "line 2, in <module>: the file ended Python while it loaded (SystemExit: 3)"),
        (
            "import numpyro.distributions as dist\nfrom pplemd.dsl import latent\nlatent('z', dist.Normal(0.0, 1.0))\n",
            "line 3, in <module>: latent was called outside of a trace",
        ),
    ],
)
def test_a_file_that_fails(tmp_path: Path, text: str, found: str) -> None:
    assert found in _failure(_write(tmp_path, text))


def test_a_file_that_is_not_there_is_asked_of_who_gave_its_path(tmp_path: Path) -> None:
    file = _write(tmp_path, "import numpy as np\nfrom pplemd.dsl import given\nnp.load(given('data', 'its data'))\n")
    with pytest.raises(ProgramError, match="line 3, in <module>: found no file 'no.npz'.*--set given.data=PATH"):
        dsl.load_file(file, {"data": "no.npz", "other": "x"})
    assert "found no file 'no.npz'; expected one to read. Check its path in that line" in _failure(
        _write(tmp_path, "open('no.npz')\n")
    )


def test_a_sibling_with_a_syntax_error_is_the_one_that_is_named(tmp_path: Path) -> None:
    _write(tmp_path, "value = \n", "pplemd_test_broken.py")
    message = _failure(_write(tmp_path, "import pplemd_test_broken\n"))
    assert "pplemd_test_broken.py, line 1: invalid syntax" in message


def test_a_path_that_is_no_python_file(tmp_path: Path) -> None:
    assert "ring.py does not exist" in _failure(tmp_path / "ring.py")
    assert "is a folder" in _failure(tmp_path)
    assert "is not a .py file" in _failure(_write(tmp_path, "x = 1\n", "ring.txt"))
    binary = tmp_path / "binary.py"
    binary.write_bytes(b"x = 1\n\xff\xfe\x00")
    assert "binary.py is not UTF-8 text (byte 6)" in _failure(binary)


_TWO = _PROGRAM + "first = Ring(jnp.ones(2))\nagain = first\nsecond = Ring(jnp.ones(2))\n_hidden = Ring(jnp.ones(2))\n"


def test_one_of_several_values_is_named(tmp_path: Path) -> None:
    module = dsl.load_file(_write(tmp_path, _TWO))
    assert dsl.select(module, dsl.Program, "second")[1] is module.second
    assert dsl.select(module, dsl.Program, "_hidden")[1] is module._hidden


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        (
            _TWO,
            None,
            "several values that are a Program (first, second); expected one, or a choice. Name one with --pro",
        ),
        (_TWO, "third", "'third' does not exist; expected a Program. Name one of first, second with --program NAME"),
        (_TWO, "Ring", "'Ring' is a "),
        ("x = 1\n", None, "no value that is a Program; expected one. Add one at module level"),
        ("x = 1\n", "x", "'x' is a int; expected a Program. The file defines no Program at module level"),
        (_PROGRAM, None, "The file defines the class Ring: add a value of it, program = Ring(...)."),
    ],
)
def test_a_choice_that_fails(tmp_path: Path, text: str, name: str | None, found: str) -> None:
    module = dsl.load_file(_write(tmp_path, text))
    with pytest.raises(ProgramError) as caught:
        dsl.select(module, dsl.Program, name)
    assert "ring.py: " in str(caught.value)
    assert found in str(caught.value)


def test_a_value_that_needs_what_was_not_given(tmp_path: Path) -> None:
    asks = "from pplemd.dsl import given\nif given('data', 'a path of images', ''):\n    x = 1\n"
    file = _write(tmp_path, asks)
    with pytest.raises(ProgramError, match="'x' does not exist.* --set given.data=VALUE, a path of images"):
        dsl.select(dsl.load_file(file), int, "x")
    with pytest.raises(ProgramError, match="found no value that is a int.* --set given.data=VALUE, a path of images"):
        dsl.select(dsl.load_file(file), int)
    told = dsl.load_file(file, {"data": "some"})
    assert dsl.select(told, int, "x") == ("x", 1)
    with pytest.raises(ProgramError) as caught:
        dsl.select(told, int, "y")
    assert "given" not in str(caught.value)


def test_a_file_is_told_what_it_asks_for(tmp_path: Path) -> None:
    asks = 'from pplemd import dsl\nfound = dsl.given("data", "a path")\nother = dsl.given("n", "n", "3")\n'
    file = _write(tmp_path, asks)
    module = dsl.load_file(file, {"data": "houses.json"})
    assert (module.found, module.other) == ("houses.json", "3")
    with pytest.raises(ProgramError, match="found --set given.date; the file asks for given.data, given.n. Correct"):
        dsl.load_file(file, {"data": "houses.json", "date": "x"})
    assert "ring.py, line 2" in _failure(file)
    assert "this file asks for a path. Give it: --set given.data=VALUE" in _failure(file)
    with pytest.raises(ProgramError, match="asks for a path"):
        dsl.given("data", "a path")  # what one file was told, no other is


def test_mistakes_in_data_name_the_line_that_reads_them(tmp_path):
    (tmp_path / "y.csv").write_text("y\n1\nNA\n")
    file = _write(tmp_path, f"import pplemd as em\n\ny = em.data.table({str(tmp_path / 'y.csv')!r})\n")
    with pytest.raises(DataError, match=r"ring.py, line 3, in <module>: .*y.csv: line 3, y: found 'NA'"):
        dsl.load_file(file)


READING = """
import json, pathlib
import pplemd as em
json.loads(pathlib.Path(em.given("data", "y")).read_text("utf-8"))
"""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04\xff\xfe", "a packed file"),
        (b"\xff\xfe", "UnicodeDecodeError"),
        (b"[1,\n2", "JSONDecodeError.*line 2"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path, content, said):
    path = tmp_path / "y.json.zip"
    path.write_bytes(content)
    with pytest.raises(ProgramError, match=rf"line 4, in <module>: found {said}") as met:
        dsl.load_file(_write(tmp_path, READING), {"data": str(path)})
    assert "em.data.table(path), which takes .json" in str(met.value)
    assert f"the file was given given.data={path}" in str(met.value)
