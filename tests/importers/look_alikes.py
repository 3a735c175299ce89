"""Files in the exact form of EDM's and torch's, written without torch: names of no module here, and dummy source."""

import dataclasses
import io
import pickle
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np

SOURCE = "raise SystemExit('the source of a checkpoint was executed')\n"
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
KINDS = {"f4": "FloatStorage", "f2": "HalfStorage", "f8": "DoubleStorage", "i8": "LongStorage"}


@dataclasses.dataclass(frozen=True)
class Name:
    """A global of the pickle."""

    module: str
    name: str

    def __call__(self):
        raise AssertionError("only written, never called")


@dataclasses.dataclass(frozen=True, eq=False)
class Called:
    """What a pickle has of an object: a name, called, and its state."""

    function: Name
    arguments: tuple
    state: Any = None

    def __call__(self):
        raise AssertionError("only written, never called")


@dataclasses.dataclass(frozen=True, eq=False)
class Kept:
    """A persistent id."""

    identity: Any


class Writer(pickle._Pickler):
    """Python's own pickler, with globals that need not exist."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_name(self, value):
        if self.proto >= 4:
            self.save(value.module)
            self.save(value.name)
            self.write(pickle.STACK_GLOBAL)
        else:
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        self.memoize(value)

    def save_called(self, value):
        self.save_reduce(value.function, value.arguments, value.state, obj=value)

    def persistent_id(self, value):
        return value.identity if isinstance(value, Kept) else None

    dispatch[Name] = save_name
    dispatch[Called] = save_called


def pickled(value: Any, protocol: int = 4) -> bytes:
    """A pickle of plain values, names, calls and persistent ids."""
    file = io.BytesIO()
    Writer(file, protocol).dump(value)
    return file.getvalue()


REBUILD = Name("torch._utils", "_rebuild_tensor_v2")
PARAMETER = Name("torch._utils", "_rebuild_parameter")
LOAD = Name("torch.storage", "_load_from_bytes")
PERSISTENT = Name("torch_utils.persistence", "_reconstruct_persistent_obj")
MODULE_DICT = Name("torch.nn.modules.container", "ModuleDict")


def kind_of(array: np.ndarray) -> Name:
    return Name("torch", KINDS[array.dtype.str[1:]])


def legacy(array: np.ndarray, key: str = "94723390007296", **changed: Any) -> bytes:
    """The stream that torch.save writes of one storage in its old format."""
    fields = {"kind": kind_of(array), "count": array.size, "length": array.size, "raw": array.tobytes(), **changed}
    identity = ("storage", fields["kind"], key, "cpu", fields["count"], None)
    head = [pickled(value, 2) for value in (MAGIC, PROTOCOL, changed.get("system", SYSTEM))]
    return b"".join(
        [*head, pickled(Kept(identity), 2), pickled([key], 2), fields["length"].to_bytes(8, "little"), fields["raw"]]
    )


def zipped(
    value: Any, storages: dict[str, bytes], compression: int = zipfile.ZIP_STORED, order: bytes = b"little"
) -> bytes:
    """The zip that torch.save writes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled(value, 2))
        archive.writestr("archive/byteorder", order)
        for key, raw in storages.items():
            archive.writestr(f"archive/data/{key}", raw)
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()


def state_dict_zip(arrays: dict[str, np.ndarray]) -> bytes:
    """A state dict as torch.save writes it today."""
    tensors, storages = OrderedDict(), {}
    for number, (name, array) in enumerate(arrays.items()):
        storages[str(number)] = array.tobytes()
        tensors[name] = tensor(Kept(("storage", kind_of(array), str(number), "cpu", array.size)), array.shape)
    return zipped(tensors, storages)


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of an array in C order, in numbers."""
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))


def tensor(storage: Any, shape: tuple, steps: tuple | None = None, offset: int = 0) -> Called:
    return Called(REBUILD, (storage, offset, shape, strides(shape) if steps is None else steps, False, OrderedDict()))


def saved(array: np.ndarray, stream: bytes | None = None, **layout: Any) -> Called:
    """A tensor as it pickles outside torch.save."""
    return tensor(
        Called(LOAD, (legacy(array) if stream is None else stream,)), layout.pop("shape", array.shape), **layout
    )


def parameter(array: np.ndarray) -> Called:
    return Called(PARAMETER, (saved(array), False, OrderedDict()))


def parts(**filled: Any) -> dict[str, Any]:
    """A torch module's attributes."""
    hooks = {name: OrderedDict() for name in ("_backward_hooks", "_forward_hooks", "_state_dict_hooks")}
    empty = {"training": False, "_parameters": OrderedDict(), "_buffers": OrderedDict(), "_modules": OrderedDict()}
    return {**empty, "_non_persistent_buffers_set": set(), **hooks, **filled}


def network(kind: str, source: str = SOURCE, **state: Any) -> Called:
    """A module of one of EDM's persistent classes."""
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": kind, "state": parts(**state)}
    return Called(PERSISTENT, (meta,))


def module_dict(protocol: int, modules: dict[str, Any]) -> Called:
    """A ModuleDict; before protocol 2 it is written by copyreg."""
    state = parts(_modules=OrderedDict(modules))
    if protocol < 2:
        return Called(Name("copy_reg", "_reconstructor"), (MODULE_DICT, object, None), state)
    return Called(MODULE_DICT, (), state)


def weights() -> dict[str, np.ndarray]:
    """A small network's state dict."""
    rng = np.random.default_rng(0)
    shapes = {
        "model.enc.8x8_conv.weight": (4, 3, 3, 3),
        "model.enc.8x8_conv.bias": (4,),
        "model.enc.8x8_conv.resample_filter": (1, 1, 2, 2),
    }
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return {**arrays, "model.halved": rng.standard_normal((2, 3)).astype(np.float16)}


def edm(protocol: int = 4, **changed: Any) -> dict[str, Any]:
    """What an EDM checkpoint's pickle holds.

    Args:
        protocol: of the pickle.
        changed: other attributes of the preconditioned network.
    """
    array = list(weights().values())
    conv = network(
        "Conv2d",
        _parameters=OrderedDict(weight=parameter(array[0]), bias=parameter(array[1])),
        _buffers=OrderedDict(resample_filter=saved(array[2]), nothing=None),
        skip_scale=np.float64(0.5) ** 0.5,
    )
    halved = saved(array[3].T.copy(), shape=(2, 3), steps=(1, 2))  # transposed in memory
    model = network(
        "SongUNet",
        _parameters=OrderedDict(halved=halved),
        _modules=OrderedDict(enc=module_dict(protocol, {"8x8_conv": conv})),
    )
    options = {
        "label_dim": 10,
        "model_type": "SongUNet",
        "channel_mult": [1, 2],
        "dropout": np.float64(0.125),
        "sigma_max": float("inf"),
    }
    state = {"_modules": OrderedDict(model=model), "_init_args": (8, 3), "_init_kwargs": options, "use_fp16": False}
    net = network(changed.pop("kind", "EDMPrecond"), **{**state, **changed})
    return {
        "ema": net,
        "loss_fn": network("EDMLoss"),
        "augment_pipe": None,
        "dataset_kwargs": {"path": "a", "xflip": False},
    }


TINY = {
    "img_resolution": 4, "img_channels": 1, "label_dim": 3, "model_type": "SongUNet", "model_channels": 8,
    "channel_mult": [1], "num_blocks": 1, "attn_resolutions": [], "dropout": 0.1,
}  # fmt: skip


def tiny_weights(config: dict[str, Any] | None = None) -> dict[str, np.ndarray]:
    """Random weights of a SongUNet, by EDM's names."""
    from pplemd.importers import blank
    from pplemd.importers.edm import edm_denoiser, slots

    rng = np.random.default_rng(1)
    network = blank(lambda: edm_denoiser(TINY if config is None else config, None).network)
    shapes = {slot.key: slot.layout.original(slot.leaf.shape) for slot in slots(network)}
    return {
        name: (0.3 * rng.standard_normal(shape) + ("norm" in name and name.endswith("weight"))).astype(np.float32)
        for name, shape in shapes.items()
    }


def checkpoint(config: dict[str, Any], arrays: dict[str, np.ndarray], protocol: int = 4) -> bytes:
    """An EDM checkpoint of given weights: modules inside modules, as their names say."""

    def module(prefix: str, name: str) -> Called:
        inner = [key.removeprefix(prefix).split(".") for key in arrays if key.startswith(prefix)]
        leaves = {parts_[0]: parameter(arrays[prefix + parts_[0]]) for parts_ in inner if len(parts_) == 1}
        names = dict.fromkeys(parts_[0] for parts_ in inner if len(parts_) > 1)
        children = {child: module(f"{prefix}{child}.", child) for child in names}
        if name in ("enc", "dec"):
            return module_dict(protocol, children)
        extra = {"_init_args": (), "_init_kwargs": config} if not prefix else {}
        kind = name or "EDMPrecond"
        return network(kind, _parameters=OrderedDict(leaves), _modules=OrderedDict(children), **extra)

    return pickled({"ema": module("", ""), "augment_pipe": None}, protocol)
