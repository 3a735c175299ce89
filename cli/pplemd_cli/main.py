"""The entry point: commands, and what a mistake, a stop and a bug look like from outside."""

import logging
import os
import sys
import traceback
from typing import NoReturn

import typer

from pplemd_cli.compare import compare
from pplemd_cli.diagnose import diagnose
from pplemd_cli.distill import distill
from pplemd_cli.evaluate import evaluate
from pplemd_cli.fid import fid
from pplemd_cli.fit import fit
from pplemd_cli.inspect import inspect
from pplemd_cli.report import report
from pplemd_cli.sample import sample
from pplemd_cli.stops import OFFSET, Stop, listen
from pplemd_cli.teacher import teacher
from pplemd_cli.watch import watch

app = typer.Typer(
    help="Distil a teacher prior into a one-step generator, declared as a probabilistic program.\n\n"
    "Example:  pplemd distill models/digits.py",
    epilog="Exit codes: 0 done; 2 a mistake, with a message; 130 stopped by Ctrl-C and 143 by SIGTERM, with the "
    "training saved; 1 a bug.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(distill)
app.command()(fit)
app.command()(sample)
app.command()(evaluate)
app.command()(compare)
app.command()(fid)
app.command()(diagnose)
app.command()(report)
app.command()(watch)
app.command()(inspect)
app.add_typer(teacher, name="teacher")

MISTAKE, BUG = 2, 1


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 the user's mistake, 1 a bug, 130 or 143 stopped by a signal.

    Args:
        arguments: what follows the command's name; by default the process's.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Harmless("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax tells there of what it raises too
    listen()
    try:
        app(arguments)
    except Stop as stop:
        _end(_say_notes(stop, _say("stopped.", OFFSET + stop.number)))
    except Exception as error:
        _end(_say_notes(error, _code(error)))


def _end(code: int) -> NoReturn:
    """Exit after a mistake; one of several processes does not wait for the others."""
    if "jax" in sys.modules:
        from pplemd.devices import leave

        leave(code)
    sys.exit(code)


def _code(error: Exception) -> int:
    from pplemd.errors import PplemdError

    if isinstance(error, PplemdError):
        return _mistake(str(error))
    if isinstance(error, OSError):
        return _mistake(f"{error}. Check the path, its permissions and the space on the disk.")
    if isinstance(error, FloatingPointError):  # raised by JAX under --debug only
        return _mistake(f"--debug: {_first_line(error)}; the traceback above shows where.")
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return _mistake(f"not enough memory ({_first_line(error)}). Try a smaller batch, as in --set batch=32.")
    if isinstance(error, OverflowError):
        return _mistake(f"a number is too large for JAX ({_first_line(error)}). Check batch and lengths.")
    _say(traceback.format_exc().rstrip("\n"), BUG)
    return _say("This is a bug in pplemd, or in the model file's own functions; please report it with the above.", BUG)


def _mistake(sentence: str) -> int:
    if os.environ.get("PPLEMD_DEBUG"):
        _say(traceback.format_exc().rstrip("\n"), MISTAKE)
    return _say(f"error: {sentence}", MISTAKE)


def _say_notes(error: BaseException, code: int) -> int:
    """What was noted on an error's way here, such as what is saved."""
    for note in getattr(error, "__notes__", ()):
        _say(note, code)
    return code


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _say(sentence: str, code: int) -> int:
    """Print a message, the one place where the command's own messages are printed; give the exit code back."""
    print(_harmless(sentence), file=sys.stderr, flush=True)
    return code


class _Harmless(logging.Formatter):
    """Warnings of the library as they are said."""

    def format(self, record: logging.LogRecord) -> str:
        return _harmless(super().format(record))


def _harmless(sentence: str) -> str:
    if sentence.replace("\n", "").isprintable():  # without a look at the library, whose import takes its time
        return sentence
    from pplemd.storage.folder import harmless

    return harmless(sentence)


if __name__ == "__main__":
    main()
