"""Charts of the report: Matplotlib lays them out, and what is kept of its SVG is paths and words with classes.

Colours, widths and fonts are the style sheet's, by class, so that a chart follows the page into dark mode and holds
nothing that the page's policy forbids. Texts of a run never reach Matplotlib.
"""

import dataclasses
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Num
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator

WIDTH, HEIGHT = 360.0, 200.0  # of a chart, in pixels of a phone: its words stay legible there
LEFT, RIGHT, TOP, BOTTOM = 48.0, 20.0, 8.0, 26.0  # margins, for the words of the ticks
NAME, LINE = 104.0, 18.0  # the left margin and the height of a line where each line has a name
COLOURS = 8  # of the style sheet, s0 to s7
LARGEST = 1e100  # numbers beyond are left out: their differences and ratios could not be told apart
ROOM = 0.06  # of the range, left free above and below
MOST = 240  # points of one curve: the width of its chart
FEW = 12  # points of one curve that are marked one by one
DOTS = 1500  # points of one cloud: more hide each other, and make the file large
BINS = 60
SHOWN = (0.002, 0.998)  # quantiles that a histogram or a plane spans
SVG = "{http://www.w3.org/2000/svg}"

Limits = tuple[float, float]
Numbers = Sequence[float] | Num[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes:
        label: what it is of.
        colour: its number among what is told apart by colour.
        x: where its points lie, in order.
        y: their values; NaN breaks the line.
        dashed: whether it is the second of two that share a colour.
    """

    label: str
    colour: int
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Cloud:
    """Points in the plane.

    Attributes:
        kind: the classes that colour them.
        x: their coordinates, (n, 2).
        joined: whether they are joined by a line, in order, and not drawn as dots.
    """

    kind: str
    x: Num[np.ndarray, "n 2"]
    joined: bool = False


@dataclasses.dataclass(frozen=True)
class Interval:
    """A number with its spread.

    Attributes:
        name: of what.
        middle: its mean.
        reach: how far it reaches to both sides.
    """

    name: str
    middle: float
    reach: float


def colour(number: int) -> str:
    """The class of the number-th thing that is told apart by colour; behind the last the first comes again, dashed."""
    return f"s{number % COLOURS}" + (" dashed" if number >= COLOURS else "")


def curves(
    label: str, shown: Sequence[Curve], *, log: tuple[bool, bool] = (False, False), guide: float | None = None
) -> Element:
    """Lines over a common axis; long ones are thinned, their extremes kept.

    Args:
        label: what the chart shows.
        shown: the lines.
        log: whether x, and whether y is logarithmic; an axis without a positive number is linear.
        guide: a number of y that they are compared with.
    """
    thin = [thinned(one) for one in shown]
    x, y = [a for one in thin for a in one.x], [b for one in thin for b in one.y]
    log_x, log_y = (wanted and any(value > 1 / LARGEST for value in values) for wanted, values in zip(log, (x, y)))  # noqa: B905
    chart = _Chart(limits(x, log=log_x, room=0.0), limits([*y, *([guide] if guide is not None else [])], log=log_y),
                   log=(log_x, log_y))  # fmt: skip
    if guide is not None:
        chart.line(chart.axes.get_xlim(), (guide, guide), {"class": "guide"})
    for one in thin:
        dashes = " dashed" if one.dashed else ""
        chart.line(one.x, one.y, {"class": f"curve {colour(one.colour)}{dashes}", "data-label": one.label})
    for one in thin:
        if len(one.x) <= FEW:
            chart.dots(one.x, one.y, f"mark {colour(one.colour)}")
    return chart.drawn(label)


def plane(label: str, clouds: Sequence[Cloud], seen: Num[np.ndarray, "m 2"]) -> Element:
    """Points and paths in a square with equal units.

    Args:
        label: what it shows.
        clouds: the lowest first; of a cloud at most 1,500 points are drawn.
        seen: points whose range is shown.
    """
    known = seen[np.isfinite(seen).all(axis=1)]
    low, high = np.quantile(known, SHOWN, axis=0) if len(known) else (np.full(2, -1.0), np.ones(2))
    middle, half = (low + high) / 2, 0.58 * float(np.max(high - low)) or 1.0
    x, y = ((float(m) - half, float(m) + half) for m in middle)
    chart = _Chart(x, y, height=WIDTH - LEFT - RIGHT + TOP + BOTTOM)  # a square within the margins
    for cloud in clouds:
        if cloud.joined:
            chart.line(cloud.x[:, 0], cloud.x[:, 1], {"class": f"path {cloud.kind}"})
        else:
            chart.dots(cloud.x[:DOTS, 0], cloud.x[:DOTS, 1], cloud.kind)
    return chart.drawn(label)


def histogram(label: str, sets: Mapping[str, Num[np.ndarray, " n"]]) -> Element:
    """Densities of several sets of numbers: the first filled, the others as lines.

    Args:
        label: what it shows.
        sets: the numbers, by the classes that colour them.
    """
    finite = {kind: x[np.isfinite(x)].astype(float) for kind, x in sets.items()}
    pooled = np.concatenate(list(finite.values()))
    low, high = (float(edge) for edge in np.quantile(pooled, SHOWN)) if len(pooled) else (0.0, 1.0)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    heights = {kind: np.histogram(x, edges)[0] / max(len(x), 1) / np.diff(edges) for kind, x in finite.items()}
    highest = max((float(height.max()) for height in heights.values()), default=0.0) or 1.0
    chart = _Chart((low, float(edges[-1])), (0.0, 1.08 * highest))
    for number, (kind, height) in enumerate(heights.items()):
        steps = np.concatenate([[0.0], np.repeat(height, 2), [0.0]])
        chart.line(np.repeat(edges, 2), steps, {"class": f"{'area' if number == 0 else 'curve'} {kind}"})
    return chart.drawn(label)


def intervals(label: str, shown: Sequence[Interval]) -> Element:
    """Means with their reach, one below the other."""
    count = len(shown)
    ends = [one.middle + sign * one.reach for one in shown for sign in (-1, 1)]
    chart = _Chart(limits(ends), (0.0, count + 0.5), height=LINE * (count + 0.5) + TOP + BOTTOM, left=NAME)
    chart.axes.yaxis.set_visible(False)
    chart.axes.grid(True, axis="x")
    left = chart.axes.get_xlim()[0]
    for number, one in enumerate(shown):
        y = count - number - 0.25
        chart.word(left, y, one.name)
        chart.line([one.middle - one.reach, one.middle + one.reach], [y, y], {"class": "curve s0"})
        chart.dots([one.middle], [y], "big s0")
    return chart.drawn(label)


def thinned(curve: Curve) -> Curve:
    """A curve of at most about 240 points: of each stretch its lowest and its highest, in order."""
    count = len(curve.x)
    if count <= MOST:
        return curve
    kept: set[int] = {0, count - 1}
    edges = np.linspace(0, count, MOST // 2 + 1).astype(int)
    for start, end in zip(edges[:-1], edges[1:], strict=True):
        stretch = np.asarray(curve.y[start:end], float)
        if np.isfinite(stretch).any():
            kept |= {start + int(np.nanargmin(stretch)), start + int(np.nanargmax(stretch))}
        if not np.isfinite(stretch).all():
            kept.add(start + int(np.flatnonzero(~np.isfinite(stretch))[0]))
    places = sorted(kept)
    return dataclasses.replace(curve, x=[curve.x[i] for i in places], y=[curve.y[i] for i in places])


def limits(values: Iterable[float], *, log: bool = False, room: float = ROOM) -> Limits:
    """The range of an axis that shows all numbers that can be shown.

    Args:
        values: the numbers; those that are not finite, and on a logarithmic axis not positive, are passed over.
        log: whether the axis is logarithmic.
        room: share of the range that is left free at both ends.
    """
    known = [value for value in values if abs(value) < LARGEST and (not log or value > 1 / LARGEST)]  # NaN is not
    low, high = (float(min(known)), float(max(known))) if known else (1.0, 10.0) if log else (0.0, 1.0)
    if log:
        ratio = max(high / low, 1.2) ** room if high > low else 1.2
        return low / ratio, high * ratio
    space = room * (high - low) if high > low else ROOM * abs(high) or 1.0
    return low - space, high + space


def short(value: int | float) -> str:
    """A number for a tick: 2,000, 0.5, 1e-5."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


class _Chart:
    """Axes of a fixed place, and what the page has to know of what is drawn in them.

    Args:
        x: the range from left to right.
        y: the range from bottom to top.
        log: whether x, and whether y is logarithmic.
        height: of the whole drawing, in pixels.
        left: the left margin.
    """

    def __init__(
        self, x: Limits, y: Limits, *, log: tuple[bool, bool] = (False, False), height: float = HEIGHT,
        left: float = LEFT,
    ):  # fmt: skip
        self._figure = Figure(figsize=(WIDTH / 72, height / 72), frameon=False)  # a pixel of SVG is 1 / 72 of an inch
        box = (left / WIDTH, BOTTOM / height, 1 - (left + RIGHT) / WIDTH, 1 - (TOP + BOTTOM) / height)
        self.axes: Axes = self._figure.add_axes(box, frameon=False)
        self._kept: dict[str, dict[str, str]] = {}
        self._words: dict[str, str] = {}
        self._data = {
            "data-x": f"{x[0]:.6g} {x[1]:.6g} {left:g} {WIDTH - RIGHT:g} {int(log[0])}",
            "data-y": f"{y[0]:.6g} {y[1]:.6g} {height - BOTTOM:g} {TOP:g} {int(log[1])}",
        }
        self.axes.set(xscale="log" if log[0] else "linear", yscale="log" if log[1] else "linear")
        both = ((self.axes.xaxis, x, log[0], 4), (self.axes.yaxis, y, log[1], 5))
        for axis, (low, high), is_log, most in both:
            axis.set_major_locator(_locator(low, high, is_log, most))
            axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        self.axes.set(xlim=x, ylim=y)
        self.axes.minorticks_off()
        self.axes.tick_params(length=0, pad=6, labelsize=11)
        self.axes.grid(True, axis="y")
        self.line((x[0], x[1]), (y[0], y[0]), {"class": "axis"})

    def line(self, x: Numbers, y: Numbers, attributes: Mapping[str, str]) -> None:
        """A line through points, broken where one has no place; dots where it has few, or stands alone."""
        name = f"line-{len(self._kept)}"
        self._kept[name] = dict(attributes)
        (drawn,) = self.axes.plot(*map(_finite, (x, y)), gid=name, clip_on=False)
        drawn.get_path().should_simplify = False  # which would drop points that stand alone

    def dots(self, x: Numbers, y: Numbers, kind: str) -> None:
        """Points; those that lie outside are left out."""
        across, up = _finite(x), _finite(y)
        (left, right), (bottom, top) = self.axes.get_xlim(), self.axes.get_ylim()
        inside = (left <= across) & (across <= right) & (bottom <= up) & (up <= top)
        x, y = (np.stack([one[inside], np.full(inside.sum(), np.nan)], axis=1).ravel() for one in (across, up))
        self.line(x, y, {"class": f"dots {kind}"})

    def word(self, x: float, y: float, text: str) -> None:
        """A text that ends left of a point."""
        name = f"word-{len(self._words)}"
        self._words[name] = text
        self.axes.annotate("-", (x, y), (-8, -4), textcoords="offset points", ha="right", gid=name)

    def drawn(self, label: str) -> Element:
        """The chart as SVG: what was drawn, the grid and the words of the ticks, each with its class."""
        buffer = io.BytesIO()
        with rc_context({"svg.fonttype": "none"}):  # words stay words
            self._figure.savefig(buffer, format="svg", metadata={"Date": None})
        source = ElementTree.fromstring(buffer.getvalue())
        made = Element("svg", {"class": "chart", "viewBox": source.get("viewBox", ""), "role": "img"})
        made.attrib |= {"aria-label": label, **self._data}
        for group in source.iter(f"{SVG}g"):
            name = group.get("id", "")
            if name in self._kept:
                _add_path(made, group, self._kept[name])
            elif re.match(r"[xy]tick_", name):
                for part in group.iter(f"{SVG}g"):
                    if part.get("id", "").startswith("line2d"):
                        _add_path(made, part, {"class": "rule"})
                _add_word(made, group, "")
            elif name in self._words:
                _add_word(made, group, "name", self._words[name])
        return made


def _finite(values: Numbers) -> np.ndarray:
    """Numbers that have a place on an axis; the others NaN."""
    array = np.asarray(values, float)
    return np.where(np.abs(array) < LARGEST, array, np.nan)


def _locator(low: float, high: float, log: bool, most: int) -> Locator:
    """Where ticks stand: at a few round numbers, powers of ten and their doubles where the axis is logarithmic."""
    decades = math.log10(high / low) if log else 0.0
    if decades < 1:
        return MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])
    return LogLocator(subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,), numticks=most + 1)


def _add_path(made: Element, group: Element, attributes: Mapping[str, str]) -> None:
    """The path of a group, as "M x y L x y"; a point alone is a line of no length, which a round cap makes a dot."""
    for path in group.findall(f"{SVG}path"):
        d = re.sub(r"\s*([ML]) *(\S+) (\S+)\s*", _pair, path.get("d", ""))
        d = re.sub(r"(M[^ML]+)(?=M|$)", r"\1h0", d)
        if d:
            made.append(Element("path", {**attributes, "d": d}))


def _pair(found: re.Match[str]) -> str:
    command, x, y = found.groups()
    return f"{command}{float(x):.1f} {float(y):.1f}"


def _add_word(made: Element, group: Element, kind: str, text: str | None = None) -> None:
    """The text of a group at its place, or another in its stead."""
    for word in group.iter(f"{SVG}text"):
        anchor = re.search(r"text-anchor: (\w+)", word.get("style", ""))
        place = {name: f"{float(word.get(name, 0)):.1f}" for name in ("x", "y")}
        kinds = {"class": kind} if kind else {}
        made.append(Element("text", {**kinds, **place, "text-anchor": anchor.group(1) if anchor else "start"}))
        made[-1].text = word.text if text is None else text
