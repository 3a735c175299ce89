"""Messages, warnings, tables and tracebacks reach the terminal without escapes of others; notes come with them."""

import io
import logging

import pytest
import typer
from rich.console import Console

from pplemd.errors import ImporterError
from pplemd_cli import main, show
from pplemd_cli.stops import Stop

ESCAPE, SHOWN = "\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"


def run(monkeypatch, error):
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(main, "app", app)
    monkeypatch.setattr(main, "listen", lambda: None)
    with pytest.raises(SystemExit) as caught:
        main.main([])
    return caught.value.code


def noted(error):
    error.add_note("The training is done and saved in run; judge it at any time by\n    pplemd evaluate run")
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImporterError(f"found {ESCAPE} in it"), 2),
        (OSError(f"cannot open {ESCAPE}"), 2),
        (MemoryError(ESCAPE), 2),
        (KeyError(f"array {ESCAPE}"), 1),
        (RuntimeError(f"array {ESCAPE}\nof two lines"), 1),
    ],
)
def test_messages(monkeypatch, capsys, error, code):
    assert run(monkeypatch, noted(error)) == code
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "\x07" not in said
    assert SHOWN in said or ascii(SHOWN)[1:-1] in said
    assert said.endswith("pplemd evaluate run\n")


def test_a_stop_says_what_is_saved(monkeypatch, capsys):
    assert run(monkeypatch, noted(Stop(2))) == 130
    assert capsys.readouterr().err == (
        "stopped.\nThe training is done and saved in run; judge it at any time by\n    pplemd evaluate run\n"
    )


def test_warnings_and_tables():
    record = logging.LogRecord("pplemd", logging.WARNING, "", 0, "the file %s\nis damaged", (ESCAPE,), None)
    assert main._Harmless("%(message)s").format(record) == f"the file {SHOWN}\nis damaged"
    made, out = show.table("arrays", "name", "value"), io.StringIO()
    made.add_row(f"w{ESCAPE}", "1")
    Console(file=out, width=100).print(made)
    assert "\x1b" not in out.getvalue()
    assert "w\\x1b" in out.getvalue()
