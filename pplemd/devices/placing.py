"""Where arrays lie on a mesh, how they get there, and how they come back."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

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
