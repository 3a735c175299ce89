import math

import pytest

from pplemd.report.axis import Axis, exact, short, spanning


def test_numbers_lie_between_start_and_end():
    axis = exact(0.0, 10.0, 100.0, 0.0)
    assert [axis.at(value) for value in (0, 5, 10)] == [100, 50, 0]
    assert axis.ticks() == [0, 2, 4, 6, 8, 10]


def test_equal_ratios_are_equally_far_apart():
    axis = Axis(0.01, 100.0, 0.0, 4.0, log=True)
    assert [axis.at(value) for value in (0.01, 0.1, 1.0)] == pytest.approx([0, 1, 2])
    assert math.isnan(axis.at(0.0))
    assert {0.01, 1.0, 100.0} <= {round(tick, 6) for tick in axis.ticks()}


def test_a_span_shows_what_is_finite_and_the_guide():
    axis = spanning([1.0, math.nan, 3.0, math.inf], 0.0, 1.0, within=[5.0])
    assert axis.low < 1.0
    assert 5.0 < axis.high < 6.0
    assert not axis.log
    assert spanning([0.1, 10.0, -1.0], 0.0, 1.0, log=True).low > 0
    assert not spanning([-1.0, 0.0], 0.0, 1.0, log=True).log  # nothing is positive


@pytest.mark.parametrize(
    "values", [[], [math.nan], [2.0], [0.0, 0.0], [1e-12, 1e12], [1e-320, 1.0], [-1.7e308, 1.7e308], [-1e99, 1e99]]
)
def test_any_numbers_have_an_axis(values):
    for log in (False, True):
        axis = spanning(values, 0.0, 1.0, log=log)
        assert axis.low < axis.high
        shown = [value for value in values if abs(value) < 1e100 and (value > 1e-100 or not log)]
        assert all(math.isfinite(axis.at(value)) for value in shown)
        assert len(axis.ticks()) <= 20


def test_ticks_are_short():
    assert [short(value) for value in (0, 2000, 0.5, 1e-5, 1e7, 12345.0)] == [
        "0",
        "2,000",
        "0.5",
        "1e-5",
        "1e7",
        "12,345",
    ]
