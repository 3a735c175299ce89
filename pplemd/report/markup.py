"""HTML and SVG as trees, written out by the standard library, which escapes every text and attribute."""

import re
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

Child = Element | str | None
# what XML 1.0, section 2.2, leaves out or discourages: the second are commands of 8-bit terminals
UNWRITABLE = re.compile("[^\t\n\r -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
LONGEST = 4000  # characters of one text: more is no sentence, and a damaged file can hold anything


def element(tag: str, attributes: Mapping[str, str | float | None] | None = None, *children: Child) -> Element:
    """An element with its content.

    Args:
        tag: its name.
        attributes: by name; those that are None are left out, numbers are written short.
        children: elements and texts in order; None is left out.
    """
    made = Element(tag, {name: _word(value) for name, value in (attributes or {}).items() if value is not None})
    add(made, *children)
    return made


def add(parent: Element, *children: Child) -> None:
    """Put elements and texts behind what an element holds already."""
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element):
            parent.append(child)
        elif len(parent):
            parent[-1].tail = (parent[-1].tail or "") + clean(child)
        else:
            parent.text = (parent.text or "") + clean(child)


def clean(text: str) -> str:
    """A text without what HTML cannot hold (control characters, lone surrogates), and not longer than a page of it."""
    short = text if len(text) <= LONGEST else text[:LONGEST] + "…"
    return UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", short)


def raw(tag: str, content: str) -> Element:
    """A script or a style sheet: the content is written as it is, so it must be the program's own."""
    made = Element(tag)
    made.text = content
    return made


def table(headings: Iterable[Child], rows: Iterable[Iterable[Child]], kind: str = "") -> Element:
    """A table in a frame of its own, which scrolls sideways where the page is narrow; the first cell heads its row."""
    head = element("tr", {}, *(element("th", {"scope": "col"}, cell) for cell in headings))
    body = element("tbody")
    for row in rows:
        cells = [element("td" if number else "th", {"scope": None if number else "row"}, cell)
                 for number, cell in enumerate(row)]  # fmt: skip
        body.append(element("tr", {}, *cells))
    whole = element("table", {"class": kind or None}, element("thead", {}, head), body)
    return element("div", {"class": "wide", "tabindex": "0", "role": "group", "aria-label": "table"}, whole)


def words(tag: str, text: str, kind: str | None = None) -> Element:
    """An element that holds a text."""
    return element(tag, {"class": kind}, text)


def written(root: Element) -> bytes:
    """A document as the bytes of a file."""
    text = ElementTree.tostring(root, encoding="unicode", method="html")
    return f"<!doctype html>\n{text}\n".encode()


def _word(value: str | float) -> str:
    if isinstance(value, str):
        return UNWRITABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    return f"{value:.2f}".rstrip("0").rstrip(".")
