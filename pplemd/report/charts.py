"""Charts as SVG: curves over steps, clouds of points, histograms, intervals, bars along an axis."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Num

from pplemd.report.axis import Axis, exact, spanning
from pplemd.report.markup import Element, element
from pplemd.report.plot import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Frame, across, canvas, colour, up

MOST = 240  # points of one curve: the width of its chart
FEW = 12  # points of one curve that are marked one by one
DOTS = 1500  # points of one cloud: more hide each other, and make the file large
BINS = 60
SHOWN = (0.002, 0.998)  # quantiles that a histogram spans
LINE, NAME = 18.0, 104.0  # pixels between intervals, and for their names


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

    @property
    def kind(self) -> str:
        """Its classes."""
        return f"curve {colour(self.colour)}" + (" dashed" if self.dashed else "")


def curves(
    label: str, shown: Sequence[Curve], *, log: tuple[bool, bool] = (False, False), guide: float | None = None
) -> Element:
    """Lines over a common axis; long ones are thinned, their extremes kept.

    Args:
        label: what the chart shows.
        shown: the lines.
        log: whether x, and whether y is logarithmic.
        guide: a number of y that they are compared with.
    """
    thin = [thinned(one) for one in shown]
    x = spanning_tightly([a for one in thin for a in one.x], log[0])
    y = spanning((b for one in thin for b in one.y), *up(), log=log[1], within=() if guide is None else (guide,))
    frame = Frame(x, y)
    drawn = [frame.curve(one.x, one.y, one.kind, one.label) for one in thin]
    drawn += [frame.dots(one.x, one.y, f"mark {colour(one.colour)}") for one in thin if len(one.x) <= FEW]
    return frame.drawn(label, None if guide is None else frame.guide(guide), *drawn)


def spanning_tightly(values: Sequence[float], log: bool) -> Axis:
    """The axis of x, without room at its ends."""
    known = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if log and known and high > low:
        return Axis(low, high, *across(), log=True)
    return exact(low, high, *across()) if high > low else exact(low - 1, high + 1, *across())


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


def plane(label: str, clouds: Sequence[Cloud], seen: Num[np.ndarray, "m 2"]) -> Element:
    """Points and paths in a square with equal units.

    Args:
        label: what it shows.
        clouds: the lowest first; of a cloud at most 1,500 points are drawn.
        seen: points whose range is shown.
    """
    height = WIDTH - LEFT - RIGHT + TOP + BOTTOM  # a square within the margins
    known = seen[np.isfinite(seen).all(axis=1)]
    low, high = np.quantile(known, SHOWN, axis=0) if len(known) else (np.full(2, -1.0), np.ones(2))
    middle, half = (low + high) / 2, 0.58 * float(np.max(high - low)) or 1.0
    (left, right), (bottom, top) = across(), up(height)
    frame = Frame(
        exact(float(middle[0]) - half, float(middle[0]) + half, left, right),
        exact(float(middle[1]) - half, float(middle[1]) + half, bottom, top),
        WIDTH, height,
    )  # fmt: skip
    layers = []
    for cloud in clouds:
        x, y = cloud.x[:, 0].tolist(), cloud.x[:, 1].tolist()
        if cloud.joined:
            layers.append(frame.curve(x, y, f"path {cloud.kind}"))
        else:
            layers.append(frame.dots(x[:DOTS], y[:DOTS], cloud.kind))
    return frame.drawn(label, *layers)


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
    frame = Frame(exact(low, float(edges[-1]), *across()), exact(0.0, 1.08 * _largest(heights), *up()))
    layers = []
    for number, (kind, height) in enumerate(heights.items()):
        x, y = np.repeat(edges, 2).tolist(), [0.0, *np.repeat(height, 2).tolist(), 0.0]
        layers.append(frame.curve(x, y, f"{'area' if number == 0 else 'curve'} {kind}"))
    return frame.drawn(label, *layers)


def _largest(heights: Mapping[str, np.ndarray]) -> float:
    return max((float(height.max()) for height in heights.values()), default=0.0) or 1.0


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


def intervals(label: str, shown: Sequence[Interval]) -> Element:
    """Means with their reach, one below the other."""
    height = LINE * (len(shown) + 0.5) + TOP + BOTTOM
    ends = [one.middle + sign * one.reach for one in shown for sign in (-1, 1)]
    x = spanning(ends, NAME, WIDTH - RIGHT)
    frame = Frame(x, exact(0.0, len(shown) + 0.5, height - BOTTOM, TOP), WIDTH, height)
    layers: list[Element | None] = []
    for number, one in enumerate(shown):
        y = len(shown) - number - 0.25
        beside: dict[str, str | float | None] = {
            "class": "name",
            "x": NAME - 8,
            "y": frame.y.at(y) + 4,
            "text-anchor": "end",
        }
        layers.append(element("text", beside, one.name))
        layers.append(frame.curve([one.middle - one.reach, one.middle + one.reach], [y, y], "curve s0"))
        layers.append(frame.dots([one.middle], [y], "big s0"))
    return canvas(label, (WIDTH, height), frame.upright(), *layers)
