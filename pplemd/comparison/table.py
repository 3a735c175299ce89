"""Figures over seeds: means, spreads, and differences by seed from the first method."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

Figures = Mapping[str, float]


def spread(values: Iterable[float | None]) -> dict[str, Any]:
    """Mean, s.d. (of n - 1; None for one value) and count of the values that are there."""
    known = [float(value) for value in values if value is not None and math.isfinite(value)]
    if not known:
        return {"mean": None, "sd": None, "n": 0}
    return {
        "mean": float(np.mean(known)),
        "sd": float(np.std(known, ddof=1)) if len(known) > 1 else None,
        "n": len(known),
    }


def means(by_seed: Mapping[int, Figures]) -> dict[str, dict[str, Any]]:
    """Mean and spread of each figure over seeds."""
    return {name: spread(figures.get(name) for figures in by_seed.values()) for name in _names(by_seed.values())}


def differences(by_seed: Mapping[int, Figures], first: Mapping[int, Figures]) -> dict[str, dict[str, Any]]:
    """Mean and spread, over seeds that both finished, of each figure less the first method's of the same seed.

    Runs of one seed share their start, their fresh draws' keys and the judge's keys, so that differences by seed
    spread less than the figures themselves; `t` is the mean over its standard error.
    """
    both = sorted(set(by_seed) & set(first))
    found = {}
    for name in _names(by_seed[seed] for seed in both):
        known = [(by_seed[seed].get(name), first[seed].get(name)) for seed in both]
        one = spread(a - b for a, b in known if a is not None and b is not None)
        error = None if not one["sd"] else one["sd"] / math.sqrt(one["n"])
        found[name] = {**one, "t": None if error is None else one["mean"] / error}
    return found


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def worded(one: Mapping[str, Any]) -> str:
    """A mean and its s.d. in few characters."""
    if one["mean"] is None:
        return "-"
    if one["sd"] is None:
        return number(one["mean"])
    return f"{number(one['mean'])} ± {number(one['sd'])}"


def number(value: float) -> str:
    """A figure in three or four digits."""
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value)}"
    return f"{value:.3f}" if abs(value) >= 0.1 else f"{value:.2g}"


def markdown(found: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """The tables of a comparison as Markdown: figures, then differences from the first method.

    Args:
        found: what compare.json holds.
        titles: shorter or longer words for figures.
    """
    rows = list(found["methods"].items())
    names = _names([found["floor"], *(row["figures"] for _, row in rows)])
    heads = [titles.get(name, name.replace("_", " ")) for name in names]
    lines = [_line(["", "steps", *heads]), _line(["---"] * (2 + len(heads)))]
    for title, figures in (("real against real (floor)", found["floor"]), ("teacher", found["teacher"])):
        if figures:
            lines.append(_line([title, "", *(cell(figures, name) for name in names)]))
    for title, row in rows:
        missing = f" ({row['failed']} of {row['runs']} diverged)" if row["failed"] else ""
        cells = (cell(row["figures"], name) for name in names)
        lines.append(_line([title + missing, f"{row['steps']:,}", *cells]))
    if len(rows) > 1:
        first = rows[0][0]
        lines += ["", f"Differences from {first} by seed, mean ± s.d.:", ""]
        lines += [_line(["", *heads]), _line(["---"] * (1 + len(heads)))]
        for title, row in rows[1:]:
            lines.append(_line([title, *(cell(row["differences"], name) for name in names)]))
    return "\n".join(lines) + "\n"


def cell(figures: Mapping[str, Any], name: str) -> str:
    """A figure's mean and s.d. in few characters, where it is there."""
    return worded(figures[name]) if name in figures else "-"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
