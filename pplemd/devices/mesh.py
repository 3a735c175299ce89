"""The mesh: how many devices, by which names."""

import math

import jax
from jax.sharding import AxisType

from pplemd.devices.placing import DATA, MODEL, ONE, Devices
from pplemd.errors import DeviceError

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
