"""pplemd compare: the same model by several algorithms, under one budget, over seeds."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from pplemd_cli import options, show, stops

COLUMNS = 4  # figures in one table: more do not fit a terminal


def compare(
    model: options.ModelFile,
    algorithms: Annotated[
        str, typer.Option(help="Algorithms, the first the one that others are compared with.", metavar="NAME,NAME,...")
    ] = "emd,diff-instruct,dmd,sid",
    budget: Annotated[
        str, typer.Option(help="What each may spend: steps=N, evaluations=N or seconds=N.", metavar="KIND=N")
    ] = "steps=2000",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each algorithm, of seeds 0, 1, ...")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="The comparison's folder; else runs/compare-MODEL.", show_default=False)
    ] = None,
    program: options.ProgramName = None,
    overrides: options.Overrides = None,
    teacher: options.Teacher = None,
    json: options.AsJson = False,
    device: options.Device = None,
    debug: options.Debug = False,
) -> None:
    """Distil a model by several algorithms, and compare them beside the teacher and real samples.

    Algorithms: emd (as the model has it), emd-K (chains of K steps), diff-instruct, dmd, sid, sim, consistency.
    What follows a colon changes the numbers of one of them: sid:algorithm.alpha=1, dmd:algorithm.anchor=none;
    --set those of all.
    Leaves run folders, compare.json, table.md, curves.png and samples.png.
    The same command again goes on: runs that ended are kept, a killed one goes on; algorithms and seeds may be added.

    For example:

        pplemd compare models/ring.py --algorithms emd,diff-instruct,dmd,sid --budget steps=2000 --seeds 3

        pplemd compare models/digits.py --algorithms emd,emd-16,sid --budget evaluations=2e6 --out runs/equal
    """
    options.prepare(device, debug)
    from pplemd.comparison import Budget, Comparison, contenders
    from pplemd.comparison import compare as run

    changes = tuple(overrides or ())
    wanted = Comparison(model, program, contenders(algorithms), Budget.read(budget), seeds, changes, teacher)
    with stops.saved("Go on with the same command."):
        compared = run(wanted, out or Path("runs") / f"compare-{model.stem}")
    if json:
        show.as_json({"out": str(compared.folder), **compared.found})
        return
    _show(compared.found)
    print(f"{compared.folder} holds compare.json, table.md, curves.png, samples.png and the runs.")


def _show(found: dict[str, Any]) -> None:
    """The tables: figures, then differences by seed."""
    from pplemd.comparison.table import cell

    console, rows = Console(highlight=False), found["methods"]
    names = list(dict.fromkeys(name for row in rows.values() for name in row["figures"]))
    seeds = "1 seed" if found["seeds"] == 1 else f"{found['seeds']} seeds"
    some = f"{found['budget']}, {seeds}, {found['count'] or 0:,} samples"
    first = next(iter(rows))
    for start in range(0, len(names), COLUMNS):
        part = names[start : start + COLUMNS]
        made = show.table(f"mean ± s.d.: {some}", "", "steps", *(_title(name) for name in part))
        for title, figures in (("real against real", found["floor"]), ("teacher", found["teacher"])):
            if figures:
                made.add_row(title, "", *(cell(figures, figure) for figure in part))
        for name, row in rows.items():
            failed = f" ({row['failed']} diverged)" if row["failed"] else ""
            made.add_row(name + failed, f"{row['steps']:,}", *(cell(row["figures"], figure) for figure in part))
        console.print(made)
    for start in range(0, len(names) if len(rows) > 1 else 0, COLUMNS):
        part = names[start : start + COLUMNS]
        made = show.table(f"less {first} of the same seed", "", *(_title(name) for name in part))
        for name, row in list(rows.items())[1:]:
            made.add_row(name, *(cell(row["differences"], figure) for figure in part))
        console.print(made)


def _title(name: str) -> str:
    return show.TITLES.get(name, name.replace("_", " "))
