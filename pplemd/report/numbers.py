"""Numbers and plain data as words."""

import math
import re
from typing import Any

MOST_WORDS = 300  # characters of one value
# what XML 1.0, section 2.2, leaves out or discourages: the second are commands of 8-bit terminals
UNWRITABLE = re.compile("[^\t\n\r -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
LONGEST = 4000  # characters of one text: more is no sentence, and a damaged file can hold anything


def clean(text: str) -> str:
    """A text without what HTML cannot hold (control characters, lone surrogates), and not longer than a page of it."""
    short = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    return UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", short)


def number(value: int | float | None) -> str:
    """A figure as people read it: 1,000; 290.7; 0.781; 0.0012; "-" where there is none."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "not finite"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}"
    size = abs(value)
    if 0.1 <= size < 1e6:
        return f"{value:,.{3 if size < 10 else 2 if size < 100 else 1}f}"
    return f"{value:.2g}"


def size(count: int | float | None) -> str:
    """A number of bytes."""
    if count is None:
        return "unknown"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def operations(count: int | float | None) -> str:
    """A number of floating-point operations."""
    if count is None:
        return "unknown"
    for unit in ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} EFLOP"


def shape(sizes: Any) -> str:
    """The shape of an array: 8 x 8 x 1."""
    if not isinstance(sizes, list | tuple):
        return "-"
    return " x ".join(str(one) for one in sizes) or "scalar"


def value(found: Any) -> str:
    """Any value of JSON data in a line."""
    if isinstance(found, bool) or found is None:
        return {True: "yes", False: "no", None: "none"}[found]
    if isinstance(found, float):
        return f"{found:.6g}"
    if isinstance(found, list | tuple):
        return ", ".join(value(one) for one in found[:20])[:MOST_WORDS]
    if isinstance(found, dict):
        return ", ".join(f"{key} {value(one)}" for key, one in list(found.items())[:20])[:MOST_WORDS]
    return str(found)[:MOST_WORDS]
