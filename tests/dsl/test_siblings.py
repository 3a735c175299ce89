"""The files beside a model file that are a part of it."""

import pytest

from pplemd.dsl import siblings

NETS = ["nets/__init__.py", "nets/blocks.py", "nets/deep/more.py"]


@pytest.fixture
def folder(tmp_path):
    """A folder of files, of which model.py imports some."""

    def write(name, text=""):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write("near.py", "def f():\n    import farther\n")
    write("farther.py", "import near")  # in a circle
    write("nets/__init__.py", "from . import blocks")
    write("nets/blocks.py")
    write("nets/deep/more.py", "import of_a_package")
    write("of_a_package.py")
    write("spread/part.py")
    write("json.py")
    write("pplemd/__init__.py")
    write("numpy/hidden.py")  # an installed package comes before a folder without __init__.py
    write("stranger.py")
    write("broken.py", "def (")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import json, numpy, pplemd.data", []),
        ("import near", ["farther.py", "near.py"]),
        ("from near import f as g", ["farther.py", "near.py"]),
        ("if False:\n    from nets.blocks import x", [*NETS, "of_a_package.py"]),
        ("import spread.part", ["spread/part.py"]),
        ("import broken, nowhere", ["broken.py"]),
        ("import model", []),
        ("def (", []),
        ("x = 'import near'", []),
    ],
)
def test_what_is_imported_from_the_folder_is_a_part_of_the_model(folder, source, expected):
    path = folder / "model.py"
    path.write_text(source)
    found = [file.relative_to(folder.resolve()).as_posix() for file in siblings(path)]
    assert found == expected
