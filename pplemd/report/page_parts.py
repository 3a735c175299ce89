"""What the page's template puts into cards and cells."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element, tostring

from markupsafe import Markup

from pplemd.report.subject import Subject


@dataclasses.dataclass(frozen=True)
class Chart:
    """A drawing under its title.

    Attributes:
        drawing: SVG.
        title: what it shows.
        says: what to read off it.
        keys: words beside the title, each with the class of its colour.
    """

    drawing: Markup
    title: str
    says: str = ""
    keys: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture that can be looked at closely.

    Attributes:
        source: its data URI.
        width: in pixels.
        height: in pixels.
        title: what it shows.
        says: what to read off it.
        fine: whether it is large enough to be shown smoothly.
    """

    source: Markup
    width: int
    height: int
    title: str
    says: str
    fine: bool


class Cell(NamedTuple):
    """A cell of a table that is more than a text."""

    text: str
    bold: bool = False
    small: bool = False
    hint: str | None = None
    stacked: bool = False
    below: tuple[str, ...] = ()


class Table(NamedTuple):
    """A table; the first cell of a row heads it. A run as a cell is its name with its colour."""

    headings: Sequence["str | Subject"]
    rows: Sequence[Sequence[str | Cell]]
    kind: str = ""


def chart(drawing: Element, title: str, says: str = "", keys: Sequence[tuple[str, str]] = ()) -> Chart:
    """A drawing with its title, what it says, and what stands beside the title."""
    return Chart(Markup(tostring(drawing, encoding="unicode", method="html")), title, says, tuple(keys))
