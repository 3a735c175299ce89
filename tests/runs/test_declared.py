"""Changes to what a model file declares."""

from pathlib import Path

import pytest

from pplemd.errors import RecipeError
from pplemd.runs.declared import declare

TAUGHT = Path(__file__).parent.parent / "cli" / "tiny_taught.py"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("teacher.step=5", r"--set teacher\.step: .*Did you mean teacher\.training\.steps\?"),
        ("teacher.training.steps=x", r"--set teacher\.training\.steps=x: expected"),
        ("step=5", r"--set step: .*Did you mean training\.steps\?"),
    ],
)
def test_messages_name_the_path_that_was_given(change, words):
    with pytest.raises(RecipeError, match=words):
        declare(TAUGHT, overrides=(change,))
