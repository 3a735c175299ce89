import math
import re

import pytest

from pplemd.plotting.charts import Curve, curves, limits, short


def ticks(drawing):
    return [word.text for word in drawing.iter("text") if word.get("text-anchor") == "middle"]


def test_equal_differences_are_equally_far_apart():
    drawing = curves("x", [Curve("run", 0, [0.0, 5.0, 10.0], [0.0, 1.0, 2.0])])
    (path,) = [one.get("d") for one in drawing.iter("path") if one.get("class") == "curve s0"]
    (a, b, c) = [float(x) for x in re.findall(r"[ML](\S+)", path)]
    assert b - a == pytest.approx(c - b, abs=0.11)
    assert ticks(drawing) == ["0", "2.5", "5", "7.5", "10"]


def test_equal_ratios_are_equally_far_apart():
    drawing = curves("x", [Curve("run", 0, [0.01, 1.0, 100.0], [1.0, 2.0, 3.0])], log=(True, False))
    (path,) = [one.get("d") for one in drawing.iter("path") if one.get("class") == "curve s0"]
    (a, b, c) = [float(x) for x in re.findall(r"[ML](\S+)", path)]
    assert b - a == pytest.approx(c - b, abs=0.11)
    assert {"0.01", "1", "100"} <= set(ticks(drawing))


def test_a_number_without_a_logarithm_has_no_place():
    drawing = curves("y", [Curve("run", 0, [1.0, 2.0, 3.0], [1.0, 0.0, 10.0])], log=(False, True))
    (path,) = [one.get("d") for one in drawing.iter("path") if one.get("class") == "curve s0"]
    assert path.count("M") == 2
    assert "nan" not in path


def test_limits_show_what_is_finite():
    low, high = limits([1.0, math.nan, 3.0, math.inf, 5.0])
    assert low < 1.0
    assert 5.0 < high < 6.0
    assert limits([0.1, 10.0, -1.0], log=True)[0] > 0


def test_the_guide_is_shown():
    drawing = curves("y", [Curve("run", 0, [1.0, 2.0], [1.0, 3.0])], guide=5.0)
    assert float(drawing.get("data-y").split()[1]) > 5.0
    assert [one for one in drawing.iter("path") if one.get("class") == "guide"]


@pytest.mark.parametrize(
    "values", [[], [math.nan], [2.0], [0.0, 0.0], [1e-12, 1e12], [1e-320, 1.0], [-1.7e308, 1.7e308], [-1e99, 1e99],
               [1e-99, 1e99], [1.0, 1.0 + 1e-15], [1e90, 1e90]]
)  # fmt: skip
def test_any_numbers_have_an_axis(values):
    for log in (False, True):
        low, high = limits(values, log=log)
        assert low < high
        steps = [float(step) for step in range(len(values))]
        drawing = curves("y", [Curve("run", 0, steps, values)], log=(False, log))
        shown = [value for value in values if abs(value) < 1e100]
        words = [word for word in drawing.iter("text") if word.get("text-anchor") == "end"]
        assert len(words) <= 20
        assert "nan" not in "".join(one.get("d") for one in drawing.iter("path"))
        assert bool(shown) == any(one.get("class") == "curve s0" for one in drawing.iter("path"))


def test_ticks_are_short():
    assert [short(value) for value in (0, 2000, 0.5, 1e-5, 1e7, 12345.0)] == [
        "0",
        "2,000",
        "0.5",
        "1e-5",
        "1e7",
        "12,345",
    ]
