"""Many samples in chunks of one compiled size, and the time that they take."""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Chunks:
    """Chunks one after the other.

    Attributes:
        x: all samples, of whole chunks.
        seconds: wall time, compilation left out.
    """

    x: Float[np.ndarray, "count ..."]
    seconds: float


def timed_chunks(one: Callable[[int], np.ndarray], count: int, advance: Callable[[int], None]) -> Chunks:
    """Draw chunk 0 once to compile it, then chunks 0 to count - 1, timed.

    Args:
        one: draws the chunk of a number.
        count: how many chunks.
        advance: told how many are done, first 0 once it is compiled.
    """
    one(0)
    advance(0)
    parts, began = [], time.perf_counter()
    for number in range(count):
        parts.append(one(number))
        advance(number + 1)
    seconds = time.perf_counter() - began
    return Chunks(np.concatenate(parts), seconds)
