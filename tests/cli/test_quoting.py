"""Commands that are printed can be pasted, whatever the paths in them."""

import ast
import re
import shutil
from pathlib import Path

import pytest

from pplemd.errors import RecipeError
from pplemd.runs.declared import declare

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "pplemd").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])
NAMES = "|".join(path.stem for path in (ROOT / "cli" / "pplemd_cli").glob("*.py"))
COMMAND = re.compile(
    rf"\bpplemd (teacher )?({NAMES}|import)( [^.`]*)? $"
)  # the text before a value that is put into a command


def commands():
    """Each value that an f-string puts into a command."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield from _values(path, node)


def _values(path, node):
    text = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += part.value
        else:
            if COMMAND.search(text.split("\n")[-1]):
                yield path.relative_to(ROOT), ast.unparse(part.value)
            text += "VALUE"


def test_values_in_commands_are_quoted():
    found = list(commands())
    assert len(found) >= 7  # of fit, distill, teacher import, and of mistakes that name the right command
    assert [place for place in found if not place[1].startswith("shlex.")] == []


def test_a_path_with_spaces_is_quoted(tmp_path):
    model = tmp_path / "my models" / "ring's.py"
    model.parent.mkdir()
    shutil.copy(Path(__file__).with_name("tiny_ring.py"), model)
    with pytest.raises(RecipeError, match="Train it: pplemd distill '") as met:
        declare(model).task.refuse_command("fit", "ring", model)
    assert re.search(r"""'/.*/my models/ring'"'"'s.py'$""", str(met.value))
