"""The ground of every chart: a frame with a grid and ticks, and what is drawn by lines of points."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from pplemd.report.axis import Axis, short
from pplemd.report.markup import Element, element

WIDTH, HEIGHT = 360.0, 200.0  # of a chart, in pixels of a phone: its words stay legible there
LEFT, RIGHT, TOP, BOTTOM = 48.0, 20.0, 8.0, 26.0  # margins, for the words of the ticks
COLOURS = 8  # of the style sheet, s0 to s7
DOT = "h0"  # a line of no length, which a round cap makes a dot


@dataclasses.dataclass(frozen=True)
class Frame:
    """The axes of a chart.

    Attributes:
        x: from left to right.
        y: from bottom to top.
        width: of the whole drawing.
        height: of the whole drawing.
    """

    x: Axis
    y: Axis
    width: float = WIDTH
    height: float = HEIGHT

    def drawn(self, label: str, *layers: Element | None) -> Element:
        """The chart: its grid, ticks, and layers over them.

        Args:
            label: what it shows, for who cannot see it.
            layers: what is drawn, the lowest first.
        """
        drawing = canvas(label, (self.width, self.height), self._level(), self._below(), *layers)
        drawing.attrib |= {"data-x": _told(self.x), "data-y": _told(self.y)}
        return drawing

    def _level(self) -> Element:
        """Lines from left to right at round numbers of y."""
        left, right = self.x.start, self.x.end
        grid = element("g", {"class": "grid"})
        for value in self.y.ticks():
            y = self.y.at(value)
            grid.append(element("line", {"x1": left, "x2": right, "y1": y, "y2": y}))
            grid.append(element("text", {"x": left - 6, "y": y + 3.5, "text-anchor": "end"}, short(value)))
        return grid

    def _below(self, top: float | None = None) -> Element:
        """Round numbers of x below the chart, with short lines, or lines up to some height."""
        bottom = self.y.start
        grid = element("g", {"class": "grid"})
        for value in self.x.ticks(4):
            x = self.x.at(value)
            grid.append(element("line", {"x1": x, "x2": x, "y1": bottom if top is None else top, "y2": bottom + 4}))
            grid.append(element("text", {"x": x, "y": bottom + 16, "text-anchor": "middle"}, short(value)))
        grid.append(element("path", {"class": "axis", "d": f"M{self.x.start:g} {bottom:g}H{self.x.end:g}"}))
        return grid

    def upright(self) -> Element:
        """A grid for numbers along x alone."""
        return self._below(self.y.end)

    def guide(self, value: float) -> Element | None:
        """A dotted line at a number of y that others are compared with; none where it lies outside."""
        y = self.y.at(value)
        if not min(self.y.start, self.y.end) <= y <= max(self.y.start, self.y.end):
            return None
        return element("line", {"class": "guide", "x1": self.x.start, "x2": self.x.end, "y1": y, "y2": y})

    def curve(self, x: Sequence[float], y: Sequence[float], kind: str, label: str | None = None) -> Element | None:
        """A line through points, broken where one has no place; dots where it has few, or stands alone."""
        runs = list(_runs(self._places(x, y)))
        if not runs:
            return None
        path = "".join(_line(run) for run in runs)
        return element("path", {"class": kind, "d": path, "data-label": label})

    def dots(self, x: Sequence[float], y: Sequence[float], kind: str) -> Element:
        """Points; those that lie outside are left out."""
        places = [(a, b) for a, b in self._places(x, y) if self._inside(a, b)]
        return element("path", {"class": f"dots {kind}", "d": "".join(f"M{_pair(a, b)}{DOT}" for a, b in places)})

    def _places(self, x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
        return [(self.x.at(a), self.y.at(b)) for a, b in zip(x, y, strict=True)]

    def _inside(self, x: float, y: float) -> bool:
        return self.x.start <= x <= self.x.end and self.y.end <= y <= self.y.start


def canvas(label: str, size: tuple[float, float], *layers: Element | None) -> Element:
    """A drawing of a width and a height, which is as wide as its place."""
    width, height = size
    attributes = {"class": "chart", "viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": label}
    return element("svg", attributes, *layers)


def across(width: float = WIDTH) -> tuple[float, float]:
    """Where the axis of x starts and ends."""
    return LEFT, width - RIGHT


def up(height: float = HEIGHT) -> tuple[float, float]:
    """Where the axis of y starts, at the bottom, and ends."""
    return height - BOTTOM, TOP


def colour(number: int) -> str:
    """The class of the number-th thing that is told apart by colour; behind the last the first comes again, dashed."""
    return f"s{number % COLOURS}" + (" dashed" if number >= COLOURS else "")


def _runs(places: Iterable[tuple[float, float]]) -> Iterable[list[tuple[float, float]]]:
    """Stretches of points that have a place."""
    run: list[tuple[float, float]] = []
    for place in places:
        if math.isfinite(place[0]) and math.isfinite(place[1]):
            run.append(place)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _line(run: list[tuple[float, float]]) -> str:
    start = f"M{_pair(*run[0])}"
    return start + (DOT if len(run) == 1 else "".join(f"L{_pair(*place)}" for place in run[1:]))


def _pair(x: float, y: float) -> str:
    return f"{x:.1f} {y:.1f}"


def _told(axis: Axis) -> str:
    """An axis for the script that reads numbers off the chart."""
    return f"{axis.low:.6g} {axis.high:.6g} {axis.start:g} {axis.end:g} {int(axis.log)}"
