import math
import re

import numpy as np
import pytest

from pplemd.plotting.charts import Cloud, Curve, Interval, curves, histogram, intervals, plane, thinned

SIX = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def paths(drawing, kind):
    return [one.get("d") for one in drawing.iter("path") if kind in (one.get("class") or "").split()]


def points(path):
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path)]


def test_a_curve_goes_through_its_points():
    drawing = curves("a line", [Curve("run", 0, [0.0, 5.0, 10.0], [0.0, 1.0, 0.0])])
    (path,) = paths(drawing, "curve")
    (x0, y0), (x1, y1), (x2, y2) = points(path)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 == y2 > y1  # pixels count from the top


def test_a_curve_is_broken_where_a_value_is_not_finite():
    drawing = curves("a line", [Curve("run", 0, SIX, [1.0, 2.0, math.nan, 3.0, math.nan, 4.0])])
    (path,) = paths(drawing, "curve")
    assert path.count("M") == 3
    assert path.endswith("h0")  # one point alone is a dot


def test_nothing_is_drawn_of_nothing():
    assert paths(curves("empty", [Curve("run", 0, [1.0], [math.nan])]), "curve") == []
    assert paths(curves("empty", []), "curve") == []


def test_thinning_keeps_the_extremes_and_the_gaps():
    y = np.sin(np.arange(10_000) / 100)
    y[3456], y[7000], y[5000] = 50.0, -50.0, math.nan
    thin = thinned(Curve("run", 0, np.arange(10_000.0).tolist(), y.tolist()))
    assert len(thin.x) < 600
    assert {50.0, -50.0} <= set(thin.y)
    assert any(math.isnan(value) for value in thin.y)
    assert list(thin.x) == sorted(thin.x)


def test_a_plane_has_equal_units_and_leaves_out_what_lies_outside():
    x = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [math.nan, 0.0], [99.0, 0.0]])
    drawing = plane("points", [Cloud("s0", x)], x[:3])
    (path,) = paths(drawing, "dots")
    (ax, ay), (bx, by), (cx, cy) = points(path)
    assert bx - ax == pytest.approx(ay - cy, abs=0.2)
    assert (ay, ax) == (by, cx)


def test_every_point_of_a_large_cloud_is_drawn():
    x = np.random.default_rng(0).uniform(-1, 1, (1000, 2))
    drawing = plane("points", [Cloud("s0", x)], 2 * x)
    (path,) = paths(drawing, "dots")
    assert len(points(path)) == 1000


def test_every_point_of_a_curve_is_drawn():
    y = np.random.default_rng(0).normal(size=240)
    (path,) = paths(curves("a line", [Curve("run", 0, list(map(float, range(240))), y.tolist())]), "curve")
    assert len(points(path)) == 240


def test_texts_of_a_run_never_reach_matplotlib():
    drawing = intervals("$x$ <b>", [Interval("$\\frac{", 1.0, 2.0)])  # which is no formula
    assert drawing.get("aria-label") == "$x$ <b>"
    assert [text.text for text in drawing.iter("text") if text.get("class") == "name"] == ["$\\frac{"]


def test_a_histogram_is_a_density():
    rng = np.random.default_rng(0)
    drawing = histogram("x", {"s1": rng.uniform(0, 2, 20_000), "s2": np.array([math.nan])})
    heights = [y for _, y in points(paths(drawing, "area")[0])]
    level = min(heights)
    data = [float(number) for number in drawing.get("data-y").split()]
    low, high, start, end, _ = data
    density = low + (level - start) / (end - start) * (high - low)
    assert density == pytest.approx(0.5, rel=0.3)  # the highest bin of a uniform law on (0, 2)


def test_intervals_reach_to_both_sides():
    drawing = intervals("means", [Interval("mu", 1.0, 2.0), Interval("tau", 5.0, 0.5), Interval("x", math.nan, 1.0)])
    lines, dots = paths(drawing, "curve"), paths(drawing, "dots")
    assert len(lines) == 2
    (a, _), (b, _) = points(lines[0])
    (middle, _) = points(dots[0])[0]
    assert middle == pytest.approx((a + b) / 2, abs=0.1)
    assert [text.text for text in drawing.iter("text") if text.get("class") == "name"] == ["mu", "tau", "x"]
