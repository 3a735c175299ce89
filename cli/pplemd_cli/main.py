"""The entry point: commands, and what a mistake, a stop and a bug look like from outside."""

import logging
import os
import sys
import traceback

import typer

from pplemd_cli.distill import distill
from pplemd_cli.evaluate import evaluate
from pplemd_cli.inspect import inspect
from pplemd_cli.sample import sample
from pplemd_cli.teacher import teacher

app = typer.Typer(
    help="Distil a teacher prior into a one-step generator, declared as a probabilistic program.\n\n"
    "Start with:  pplemd distill models/digits.py",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(distill)
app.command()(sample)
app.command()(evaluate)
app.command()(inspect)
app.add_typer(teacher, name="teacher")

MISTAKE, BUG = 2, 1


def main() -> None:
    """Run the command line; exit 0 done, 2 the user's mistake, 1 a bug, 130 or 143 stopped by a signal."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(_say("stopped.", 130))
    except Exception as error:
        sys.exit(_code(error))


def _code(error: Exception) -> int:
    from pplemd.errors import PplemdError

    if isinstance(error, PplemdError):
        if os.environ.get("PPLEMD_DEBUG"):
            traceback.print_exc()
        return _say(f"error: {error}", MISTAKE)
    if isinstance(error, OSError):
        return _say(f"error: {error}. Check the path, its permissions and the space on the disk.", MISTAKE)
    traceback.print_exc()
    return _say("This is a bug in pplemd, or in the model file's own functions; please report it with the above.", BUG)


def _say(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
