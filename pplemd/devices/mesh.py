"""A mesh of devices: where arrays lie on it, and work on the rows of a batch, each device its own."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from pplemd.errors import DeviceError

DATA, MODEL = "data", "model"  # the axes of a mesh
LARGE = 2**16  # elements of an array that is worth splitting: below, gathering it costs more than keeping it


@dataclasses.dataclass(frozen=True)
class Devices:
    """What a training runs on.

    The rows of a batch are divided among all devices. Along the axis `model` each large array of a training's state
    (parameters, optimiser memory, averages) is split as well, and gathered where it is used: every device then keeps
    its share only. Along `data` it is kept whole.

    Attributes:
        mesh: the devices and the names of their axes; None for JAX's default device alone.
    """

    mesh: Mesh | None = None

    def __str__(self) -> str:
        """The mesh as a user writes it: "data=4,model=2"."""
        return "one device" if self.mesh is None else ",".join(f"{name}={n}" for name, n in self.mesh.shape.items())

    @property
    def count(self) -> int:
        """How many devices."""
        return 1 if self.mesh is None else self.mesh.size

    def entered(self) -> contextlib.AbstractContextManager[PyTree]:
        """The time of a `with` block, rows are divided among the devices (`over_rows`)."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    def everywhere(self, tree: PyTree) -> PyTree:
        """A pytree whose arrays lie on every device, whole."""
        return self._put(tree, lambda leaf: PartitionSpec())

    def split(self, tree: PyTree) -> PyTree:
        """A training's state, its large arrays split along `model`."""
        return self._put(tree, self._spec)

    def kept(self, tree: PyTree) -> PyTree:
        """In a compiled function: the same state, to be left on the devices as `split` puts it there."""
        mesh = self.mesh
        if mesh is None:
            return tree

        def keep(leaf):
            return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, self._spec(leaf)))

        return jax.tree.map(lambda leaf: keep(leaf) if eqx.is_array(leaf) else leaf, tree)

    def local(self, tree: PyTree) -> PyTree:
        """A state with whole arrays on this process's first device, to look at; every process must call it."""
        return tree if self.mesh is None else whole(tree)

    def replaced(self, old: PyTree, seen: PyTree, new: PyTree) -> PyTree:
        """A state on the mesh in which what differs between two local ones is put anew.

        Args:
            old: the state on the mesh.
            seen: the same, local.
            new: what became of the local one; leaves that are the same object are left as they are in `old`.
        """
        if self.mesh is None:
            return self.split(new)

        def absent(leaf):  # None is a leaf here: a field may be empty on one side
            return leaf is None

        same = jax.tree.map(lambda before, after: before is after, seen, new, is_leaf=absent)
        changed = jax.tree.map(lambda leaf, keep: None if keep else leaf, new, same, is_leaf=absent)
        return jax.tree.map(
            lambda mine, leaf, keep: mine if keep else leaf, old, self.split(changed), same, is_leaf=absent
        )

    def _spec(self, leaf: Any) -> PartitionSpec:
        """Split along the longest axis that can be divided, where it is worth it."""
        assert self.mesh is not None
        parts = self.mesh.shape.get(MODEL, 1)
        axes = [axis for axis, length in enumerate(leaf.shape) if length % parts == 0]
        if parts == 1 or leaf.size < LARGE or not axes:
            return PartitionSpec()
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return PartitionSpec(*(None,) * longest, MODEL)

    def _put(self, tree: PyTree, spec: Callable[[Any], PartitionSpec]) -> PyTree:
        mesh = self.mesh
        if mesh is None:
            return jax.tree.map(_stay, tree)

        def put(leaf):
            sharding = NamedSharding(mesh, spec(leaf))
            if sharding.is_fully_addressable:
                return jax.device_put(leaf, sharding)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                raise TypeError("keys are not put on the devices of other processes; the state of a step holds none")
            content = np.asarray(leaf)  # the same in every process, which puts its own part
            return jax.make_array_from_callback(content.shape, sharding, lambda index: content[index])

        return jax.tree.map(lambda leaf: put(leaf) if eqx.is_array(leaf) else leaf, tree)


ONE = Devices()


def _stay(leaf: Any) -> Any:
    """An array bound to where it is, as those of a checkpoint are: a program is compiled once for both."""
    return jax.device_put(leaf, leaf.sharding) if isinstance(leaf, jax.Array) else leaf


def whole(tree: PyTree) -> PyTree:
    """A pytree with each array whole on this process's first device that holds it; every process must call it."""

    def one(leaf):
        if not isinstance(leaf, jax.Array) or not isinstance(leaf.sharding, NamedSharding):
            return leaf
        if leaf.is_fully_replicated:
            return leaf.addressable_data(0)
        if leaf.is_fully_addressable:
            return jax.device_put(leaf, jax.sharding.SingleDeviceSharding(leaf.sharding.mesh.local_devices[0]))
        everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())
        return jax.jit(_same, out_shardings=everywhere)(leaf).addressable_data(0)

    return jax.tree.map(one, tree)


def _same(leaf: jax.Array) -> jax.Array:
    return leaf


EXAMPLES = "--mesh data=8, --mesh model=8 or --mesh data=4,model=2"


def chosen(text: str | None, batch: int) -> Devices:
    """The devices that a training runs on.

    Args:
        text: the mesh, such as "data=4,model=2"; by default all devices in one `data` axis, or one
            device where there is no other, or where the batch cannot be divided among them.
        batch: rows of a step, in all.

    Raises:
        DeviceError: where the mesh cannot be read, or fits neither devices nor batch.
    """
    count, several = jax.device_count(), jax.process_count() > 1
    if text is None:
        return ONE if count == 1 or (not several and batch % count) else _made({DATA: count}, batch)
    sizes = parsed(text)
    total = math.prod(sizes.values())
    if total > count or (several and total < count):
        wanted = f"{count}, since every process takes part" if several else f"{count} or fewer"
        raise DeviceError(f"--mesh {text} asks for {total} devices; expected {wanted}: JAX found {count}.")
    return _made(sizes, batch)


def described(devices: Devices, batch: int) -> str | None:
    """A sentence on what a training runs on, where that is worth a sentence."""
    found = jax.device_count()
    if devices.count == 1:
        wasted = f"note: JAX found {found} devices; the training runs on one. A batch that they divide would use all."
        return wasted if found > 1 else None
    processes = f", {jax.process_count()} processes" if jax.process_count() > 1 else ""
    return f"{devices.count} devices ({devices}){processes}; a batch of {batch}."


def parsed(text: str) -> dict[str, int]:
    """The axes of a mesh and their sizes, as in "data=4,model=2".

    Raises:
        DeviceError: where it is no mesh.
    """
    sizes: dict[str, int] = {}
    for part in text.replace(" ", "").split(","):
        name, _, size = part.partition("=")
        if name not in (DATA, MODEL) or name in sizes or not size.isascii() or not size.isdigit() or int(size) < 1:
            raise DeviceError(
                f"--mesh {text}: {part!r} is no axis of a mesh. Expected the axes {DATA} and {MODEL}, each once at "
                f"most, with a positive number of devices: {EXAMPLES}."
            )
        sizes[name] = int(size)
    return {name: sizes[name] for name in (DATA, MODEL) if name in sizes}


def _made(sizes: dict[str, int], batch: int) -> Devices:
    count = math.prod(sizes.values())
    if count == 1 and jax.process_count() == 1:
        return ONE
    parts = sizes.get(DATA, count)
    if batch % parts:
        raise DeviceError(
            f"the batch of {batch} cannot be divided among {parts} devices. Choose a batch that is a multiple of "
            f"{parts}, as in --set training.batch={-(-batch // parts) * parts}, or another --mesh."
        )
    names = tuple(sizes)
    kinds = (AxisType.Auto,) * len(names)
    return Devices(jax.make_mesh(tuple(sizes.values()), names, kinds, devices=jax.devices()[:count]))


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
