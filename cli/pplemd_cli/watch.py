"""pplemd watch: follow a run that another process makes."""

from typing import Annotated

import typer

from pplemd_cli import options, show


def watch(
    run: options.RunPath,
    once: Annotated[bool, typer.Option("--once", help="Show how it stands now, and exit.")] = False,
    every: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between looks.")] = 1.0,
    json: options.AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Follow a run on the terminal: how far it is, the time left, figures with their curves, alarms.

    Ends when the run ends, or was stopped; Ctrl-C ends the watching, not the run. It reads files alone, and can
    be started before the run's first figures. --json says once how it stands.

    For example:

        pplemd watch runs/digits

        pplemd watch runs/digits --once
    """
    options.set_debug(debug)
    from pplemd.report.terminal import figures, look
    from pplemd.runs.following import watch as follow

    if json:
        show.as_json({"run": str(run), **figures(look(run))})
        return
    follow(run, once=once, every=every)
