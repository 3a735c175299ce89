"""Where data lie, said in whatever is wrong with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike

import numpy as np
from jaxtyping import Shaped

from pplemd.errors import DataError


@contextmanager
def naming(place: str | PathLike[str]) -> Iterator[None]:
    """In a `with` block, every DataError begins with the place of the data that are wrong.

    Args:
        place: a file, or an array or a line of it.

    Raises:
        DataError: what the block raised, with its place.
    """
    try:
        yield
    except DataError as error:
        raise DataError(f"{place}: {error}") from error


def listed(names: list[str], most: int = 5) -> str:
    """Return the first few names and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def check_finite(x: Shaped[np.ndarray, "n *shape"]) -> None:
    """See that no sample holds NaN or infinity.

    Raises:
        DataError: with the number of such samples, and the index of the first and of its first such number.
    """
    if x.dtype.kind != "f" or np.isfinite(x.sum(dtype=np.float64)):  # one pass, and no array of booleans
        return
    rows = np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
    if not len(rows):  # finite numbers whose sum overflows
        return
    inner = tuple(int(i) for i in np.argwhere(~np.isfinite(x[rows[0]]))[0])
    raise DataError(
        f"found NaN or infinity in {len(rows)} of {len(x)} samples, the first sample {rows[0]} (from 0) at {inner}, "
        "expected finite numbers: remove those samples"
    )
