"""What a traced program is given when it is evaluated: constants, columns of data, and which rows are looked at."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

ROWS = "rows"  # the plate of a program that is declared for one row of its data


class Source:
    """An array on the host of which rows are read when they are looked at. Compared by identity.

    Args:
        array: usually memory-mapped; the first axis is rows.
    """

    def __init__(self, array: np.ndarray):
        self.array = array
        self.dtype = jax.dtypes.canonicalize_dtype(array.dtype)

    def __call__(self, rows: Int[Array | np.ndarray, "..."]) -> np.ndarray:
        """Read rows: an array of their indices' shape, followed by the shape of one."""
        return np.asarray(self.array[np.asarray(rows)], self.dtype)


class HostColumn(eqx.Module):
    """A column that stays on the host: the device is sent the rows that it looks at.

    Attributes:
        source: what reads rows.
    """

    source: Source = eqx.field(static=True)

    def __init__(self, array: np.ndarray):
        self.source = Source(array)

    def __len__(self) -> int:
        return len(self.source.array)

    @property
    def dtype(self) -> np.dtype:
        """As JAX has it."""
        return self.source.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, rows first."""
        return self.source.array.shape

    def __getitem__(self, row: Int[Array, ""]) -> Array:
        """One row, read when this is computed; under `jax.vmap` all rows of a batch at once."""
        one = jax.ShapeDtypeStruct(self.shape[1:], self.source.dtype)
        return jax.pure_callback(self.source, one, row, vmap_method="broadcast_all")


class Inputs(eqx.Module):
    """What a traced program is given beside its own arrays and a label; arguments of whatever is compiled.

    Attributes:
        constants: large arrays that its `__call__` closed over.
        columns: data by name, whole.
        rows: of each plate of which only some rows are looked at, their indices.
        row: data of the one row that a program of single rows looks at; None where it takes whole columns.
    """

    constants: tuple[Array, ...] = ()
    columns: dict[str, Array | HostColumn] = eqx.field(default_factory=dict)
    rows: dict[str, Array] = eqx.field(default_factory=dict)
    row: dict[str, Array] | None = None

    def at(self, rows: Mapping[str, Int[Array, " rows"]], single: bool) -> "Inputs":
        """Return the same of some rows of the plates; of one row of all columns where the program is of single rows."""
        row = {name: column[jnp.asarray(rows[ROWS])[0]] for name, column in self.columns.items()} if single else None
        return Inputs(self.constants, self.columns, dict(rows), row)
