"""Work on the rows of a batch, each device its own: what is exchanged is what is written here."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from pplemd.devices.placing import DATA


def over_rows(many: Callable[..., PyTree], *rows: PyTree) -> PyTree:
    """`many(*rows)`; on a mesh each device does its own rows, and nothing is exchanged while it does.

    Args:
        many: a function of some rows that does to each what it would do alone, such as jax.vmap of one; what it closes
            over is the same for all.
        rows: its arguments with a leading batch dimension.

    Returns:
        What it returns, with a leading batch dimension.
    """
    axes = _axes(rows)
    if not axes:
        return many(*rows)
    split = PartitionSpec(axes)
    return jax.shard_map(many, in_specs=split, out_specs=split, check_vma=False)(*rows)


def mean_over_rows(mean: Callable[..., PyTree], *rows: PyTree) -> PyTree:
    """`mean(*rows)`; on a mesh each device does its own rows, and their results are averaged: one reduction.

    Args:
        mean: a function of some rows whose results are means over them, such as the gradient of a mean loss; it draws
            nothing at random, since every device would draw the same.
        rows: its arguments with a leading batch dimension.
    """
    axes = _axes(rows)
    if not axes:
        return mean(*rows)

    def reduced(*some: Any) -> PyTree:
        return jax.lax.pmean(mean(*some), axes)

    return jax.shard_map(reduced, in_specs=PartitionSpec(axes), out_specs=PartitionSpec(), check_vma=False)(*rows)


def at_hand(value: PyTree) -> PyTree:
    """In work on rows: what is the same for all of them, as an operand of a jaxpr that was traced elsewhere.

    JAX's own functions do this with what they are given; the equations of a jaxpr do not.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not isinstance(value, jax.Array) or all(kind == AxisType.Auto for kind in mesh.axis_types):
        return value
    now = jax.typeof(value).sharding.mesh
    if now.empty or now == mesh:
        return value
    return jax.sharding.reshard(value, NamedSharding(mesh, PartitionSpec(*(None,) * value.ndim)))


def _axes(rows: PyTree) -> tuple[str, ...]:
    """The axes of the mesh that the rows are divided along: all; else `data`; none where they cannot be divided.

    Inside of a division there is no mesh to divide along.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or any(kind != AxisType.Auto for kind in mesh.axis_types):
        return ()
    count = jax.tree.leaves(rows)[0].shape[0]
    if count % mesh.size == 0:
        return tuple(mesh.axis_names)
    return (DATA,) if DATA in mesh.axis_names and count % mesh.shape[DATA] == 0 else ()
