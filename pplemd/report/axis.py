"""An axis: which numbers it shows, where they lie, and where its ticks stand."""

import dataclasses
import math
from collections.abc import Iterable

LARGEST = 1e100  # numbers beyond are left out: their differences and ratios could not be told
ROOM = 0.06  # of the range, left free above and below
FEW_DECADES = 2.0  # on which powers of ten alone would be one or two


@dataclasses.dataclass(frozen=True)
class Axis:
    """A range of numbers on a line of pixels.

    Attributes:
        low: the number at `start`.
        high: the number at `end`.
        start: where the line starts, in the drawing's units.
        end: where it ends.
        log: whether equal ratios are equally far apart; then low is positive.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: int | float) -> float:
        """Where a number lies; NaN where it has no place."""
        if self.log:
            if value <= 1 / LARGEST:
                return math.nan
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """A few round numbers within the range."""
        from matplotlib.ticker import Locator, LogLocator, MaxNLocator  # here: no start waits for what draws

        decades = math.log10(self.high / self.low) if self.log else 0.0
        if decades < 1:
            locator: Locator = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])
        else:
            locator = LogLocator(subs=(1.0, 2.0, 5.0) if decades < FEW_DECADES else (1.0,), numticks=most + 1)
        found = [float(value) for value in locator.tick_values(self.low, self.high)]
        slack = 1e-9 * (self.high - self.low)
        return [value for value in found if self.low - slack <= value <= self.high + slack]


def spanning(
    values: Iterable[float], start: float, end: float, *, log: bool = False, within: Iterable[float] = ()
) -> Axis:
    """An axis that shows all finite numbers, with some room.

    Args:
        values: the numbers; those that are not finite, and on a logarithmic axis not positive, are passed over.
        start: where the line starts.
        end: where it ends.
        log: whether it is to be logarithmic; it is linear where no number is positive.
        within: further numbers to show, such as those of a guide.
    """
    known = [value for value in (*values, *within) if abs(value) < LARGEST]  # NaN is not
    positive = [value for value in known if value > 1 / LARGEST]
    if log and positive:
        low, high = min(positive), max(positive)
        room = max(high / low, 1.2) ** ROOM
        return Axis(low / room, high * room, start, end, log=True)
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    room = ROOM * (high - low) or ROOM * abs(high) or 1.0
    return Axis(low - room, high + room, start, end)


def exact(low: float, high: float, start: float, end: float) -> Axis:
    """A linear axis from one number to another."""
    return Axis(low, high if high > low else low + 1.0, start, end)


def short(value: int | float) -> str:
    """A number for a tick: 2,000, 0.5, 1e-05."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
