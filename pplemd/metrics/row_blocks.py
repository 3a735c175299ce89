"""Functions of rows, some rows at a time."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Num


def in_blocks(
    function: Callable[[Float32[np.ndarray, "size *shape"]], Float32[np.ndarray, "size width"]],
    rows: Num[np.ndarray, "n *shape"],
    size: int,
) -> Float32[np.ndarray, "n width"]:
    """A function of every row, evaluated for `size` rows each time; the last block is filled up by its own first row.

    The rounding of a matrix product changes with its number of rows: with blocks of one size, the same row gives the
    same numbers whatever stands beside it, and is compiled for once.

    Args:
        function: from `size` rows, in 32 bits, to a vector for each.
        rows: at least one.
        size: rows at once.
    """
    parts = []
    for start in range(0, len(rows), size):
        some = rows[start : start + size].astype(np.float32, copy=False)
        filled = np.concatenate([some, np.repeat(some[:1], size - len(some), axis=0)])
        parts.append(function(filled)[: len(some)])
    return np.concatenate(parts)
