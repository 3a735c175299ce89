"""Results for people and for programs."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from pplemd.tasks.base import AbstractReport

TITLES = {
    "frechet": "Frechet",
    "frechet_train": "Frechet (train)",
    "precision": "precision",
    "recall": "recall",
    "class_kl": "class KL",
    "class_recall": "recall, worst class",
    "kid": "KID",
    "seconds_per_1000": "s / 1,000",
    "sliced_w2": "sliced W2",
    "weight_kl": "weight KL",
}
POSTERIOR = ("site", "lambda", "R-hat", "ESS", "/ gradient", "divergences")


def as_json(value: Any) -> None:
    """One JSON value on standard output."""
    from pplemd.storage.folder import finite

    print(json.dumps(finite(value), indent=2))


def harmless(text: str) -> str:
    """Text of unknown origin in one line, as a terminal may have it: what is not printable is written out."""
    from pplemd.storage.folder import harmless as cleaned

    return cleaned(text).replace("\n", "\\n").replace("\t", "\\t")


def either(json_wanted: bool, value: Any, line: str) -> None:
    """A value for programs, or a line for people."""
    if json_wanted:
        as_json(value)
    else:
        print(line)


def table(title: str, *headings: str) -> Table:
    """An empty table in the style of all of them; its cells are shown without escapes of their own."""
    made = _Harmless(title=f"[bold not italic]{title}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        made.add_column(heading, overflow="fold")
    return made


class _Harmless(Table):
    """A table whose cells may be names of unknown origin."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        from pplemd.storage.folder import harmless as cleaned  # which keeps lines: cells may have several

        super().add_row(*(cleaned(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def report(figures: dict[str, Any]) -> None:
    """What a run ends with: the figures of a student beside its teacher's, or those of a fit."""
    if "student" in figures:
        # a row for each figure; floor, teacher and student side by side
        columns = {"floor": "real against real", "teacher": "teacher", "student": "student, one step"}
        made = table(f"{figures['count']:,} samples, seed {figures['seed']}", "", *columns.values())
        for column in made.columns[1:]:
            column.justify = "right"
        for name in dict.fromkeys(name for key in columns for name in figures[key]):
            title = TITLES.get(name, name.replace("_", " "))
            made.add_row(title, *(figure(figures[key].get(name)) for key in columns))
        Console().print(made)
        for verdict in short(figures):
            print(verdict)
    else:
        _of_fit(figures)


def figures(report: "AbstractReport") -> dict[str, Any]:
    """A report for programs; with what falls short, where a student stands beside its teacher."""
    found = report.figures()
    return found | ({"falls_short": short(found)} if "student" in found else {})


def unjudged(run: Path) -> None:
    """That a run was not judged, and what does it."""
    from pplemd.runs.session import evaluation

    print(f"Not judged, as asked; judge it at any time by\n    {evaluation(run)}")


def short(figures: dict[str, Any]) -> tuple[str, ...]:
    """What falls short in a report, a sentence each."""
    from pplemd.report.glossary import shortfalls

    return shortfalls(lambda who, name: figures[who].get(name), figures["count"])


def _of_fit(figures: dict[str, Any]) -> None:
    """What a fit ends with: its parameters, log p(y), and the figures of its latents' chains."""
    console = Console(highlight=False)
    _parameters(console, figures["parameters"], figures["convergence"] or {})
    found = figures["log_marginal"]
    what = f"log p(y), mean of {found['rows']} rows" if "rows" in found else "log p(y)"
    spread = f"(no error: {found.get('doubt', 'not known')})"
    if found["error"] is not None:
        spread = f"+- {found['error']:.2g} ({found['effective']:,.0f} draws' worth)"
    console.print(f"[bold]{what}[/bold]  {_marginal(found['value'])} {spread}\n")
    made = table(f"latents given the data, seed {figures['seed']}", *POSTERIOR)
    for column in made.columns[1:]:
        column.justify = "right"
    for row in figures["posterior"]:
        lam = figures["centering"].get(row["site"])
        numbers = (f"{row['r_hat']:.3f}", f"{row['ess_bulk']:,.0f}", f"{row['ess_per_gradient']:.2g}")
        made.add_row(row["site"], "-" if lam is None else f"{lam:.2g}", *numbers, str(row["divergences"]))
    console.print(made)
    for one in figures["findings"]:
        what = f"[bold]{escape(one['found'])}[/bold]; expected: {escape(one['expected'])}."
        console.print(f"- {what} {escape(one['repair'])}")


def _parameters(console: Console, parameters: dict[str, Any], verdict: dict[str, Any]) -> None:
    """Parameters as estimates where the fit has converged, else as what they are, with what to change."""
    converged, moves = verdict.get("converged"), verdict.get("moves") or {}
    title = {
        True: "parameters",
        False: "where the parameters are; NOT CONVERGED, so no estimates",
        None: "parameters; whether they have converged cannot be told",
    }
    made = table(title[converged], "parameter", "value")
    if not converged and moves:
        made.add_column("one more M-step adds")
    for path, value in parameters.items():
        added = [f"{moves[name]:+.2g}" for name in moves if name == path or name.rpartition(".")[0] == path]
        made.add_row(path, _array(value), *([", ".join(added)] if not converged and moves else []))
    console.print(made)
    if verdict:
        words = {True: "Converged", False: "[bold red]Not converged[/bold red]", None: "Converged or not"}[converged]
        repair = f"\n  repair: {verdict['repair']}." if verdict["repair"] else ""
        console.print(f"{words}: {verdict['found']}.{repair}\n")


def _marginal(value: float | None) -> str:
    """Nats, with two decimals."""
    return "not finite" if value is None else f"{value:.2f}"


def _array(value: Any) -> str:
    if isinstance(value, dict):
        shape = " x ".join(str(size) for size in value["shape"])
        return f"{shape} numbers, mean {value['mean']:.3g}, s.d. {value['sd']:.3g}"
    if isinstance(value, list):
        return ", ".join(_array(item) for item in value)
    return f"{value:.4g}"


def figure(value: float | None) -> str:
    """A figure in few characters."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "not finite"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.2g}"


def size(bytes_: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if bytes_ < 1000:
            return f"{bytes_:.3g} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.3g} TB"
