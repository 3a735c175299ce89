"""The blocks that sections are made of."""

from collections.abc import Iterable, Sequence

from pplemd.report.markup import Child, Element, add, element, words
from pplemd.report.plot import colour
from pplemd.report.subject import Subject


def section(name: str, title: str, *children: Child) -> Element:
    """A section of the page, which the contents lead to."""
    return element("section", {"id": name}, words("h2", title), *children)


def named(subject: Subject) -> Element:
    """The name of a run with its colour."""
    return element("span", {"class": "run"}, element("i", {"class": f"chip {colour(subject.number)}"}), subject.name)


def beside(blocks: Sequence[tuple[Subject, Sequence[Child]]]) -> Element | None:
    """A column for each run that has something to show, under its name where several were asked."""
    shown = [(subject, children) for subject, children in blocks if any(child is not None for child in children)]
    if not shown:
        return None
    whole = element("div", {"class": "columns"})
    for subject, children in shown:
        column = element("div", {"class": "column"}, element("h3", {}, named(subject)) if len(blocks) > 1 else None)
        add(column, *children)
        whole.append(column)
    return whole


def grid(children: Iterable[Element | None]) -> Element | None:
    """Charts side by side, as many as the page is wide."""
    kept = [child for child in children if child is not None]
    return element("div", {"class": "grid"}, *kept) if kept else None


def chart(drawing: Element, title: str, says: str = "", *beside_title: Child) -> Element:
    """A chart with its title, what it says, and what stands beside the title."""
    head = element("figcaption", {}, words("b", title), element("span", {"class": "readout"}, *beside_title))
    if says:
        head.append(words("small", says))
    return element("figure", {"class": "card"}, head, drawing)


def folded(title: Child, *children: Child, unfolded: bool = False) -> Element:
    """What is shown when it is asked for, or until it is folded."""
    return element("details", {"open": "" if unfolded else None}, element("summary", {}, title), *children)


def listed(sentences: Iterable[str], kind: str) -> Element | None:
    """Sentences below each other."""
    items = [words("li", sentence) for sentence in sentences]
    return element("ul", {"class": kind}, *items) if items else None
