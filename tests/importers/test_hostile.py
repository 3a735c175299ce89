"""Hostile and broken files: each is refused with one message that names what was found; nothing of it runs."""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
from look_alikes import (
    LOAD,
    MODULE_DICT,
    PARAMETER,
    PERSISTENT,
    REBUILD,
    Called,
    Kept,
    Name,
    edm,
    kind_of,
    legacy,
    network,
    pickled,
    saved,
    state_dict_zip,
    tensor,
    weights,
    zipped,
)

from pplemd.errors import ImporterError
from pplemd.importers import build, edm_denoiser, read_checkpoint, read_classifier
from pplemd.importers.pickles import machine
from pplemd.importers.weights import write_safetensors

CANARY = "pplemd_hostile_canary"
TOUCH = f"import pathlib; pathlib.Path('{CANARY}').touch()"
MEMORY = 32 * 2**20  # bytes that reading a file of a few kB may take at its peak
A = np.arange(4, dtype=np.float32)
OPTIONS = {"model_type": "SongUNet"}


def holding(value) -> bytes:
    """A checkpoint with one hostile value."""
    return pickled({"loss_fn": network("EDMLoss"), "augment_pipe": value})


def with_tensor(value) -> bytes:
    return pickled({"ema": network("EDMPrecond", _parameters={"weight": value}, _init_kwargs=OPTIONS)})


def with_options(value) -> bytes:
    return pickled(edm(_init_kwargs=value))


def calls(module: str, name: str, *arguments) -> bytes:
    return holding(Called(Name(module, name), arguments))


def op(code: bytes, protocol: int = 2) -> bytes:
    """A stream of raw instructions."""
    return pickle.PROTO + bytes([protocol]) + code + b"."


def endless() -> list:
    """A list that holds itself."""
    value: list = []
    value.append(value)
    return value


def laughs(depth: int) -> list:
    """A list of two references to a list of two references..."""
    value: list = [1, 1]
    for _ in range(depth):
        value = [value, value]
    return value


def nested(depth: int) -> bytes:
    return b"(" * depth + b"t" * depth


def many_of_one() -> bytes:
    """A thousand tensors that share one storage of a megabyte."""
    storage = Called(LOAD, (legacy(np.zeros(2**18, np.float32)),))
    tensors = {str(number): tensor(storage, (2**18,)) for number in range(1000)}
    return pickled({"ema": network("EDMPrecond", _init_kwargs=OPTIONS, _parameters=tensors)})


def named_often() -> bytes:
    """One module of 200 tensors, named 200 times."""
    weight = saved(A)
    one = network("Linear", _parameters={str(number): weight for number in range(200)})
    return pickled({"ema": network("EDMPrecond", _init_kwargs=OPTIONS, _modules={str(i): one for i in range(200)})})


def own_module() -> bytes:
    """A network with a ModuleDict that is a part of itself, by the memo."""
    inner = b"ctorch.nn.modules.container\nModuleDict\n)Rq\x50}"
    inner += b"X\x08\x00\x00\x00_modulesq\x51}X\x01\x00\x00\x00aq\x52h\x50ssb"
    meta = pickled({"type": "class", "class_name": "EDMPrecond"}, 2)[2:-1]
    state = b"}X\x0c\x00\x00\x00_init_kwargs}s" + b"h\x51}h\x52" + b"h\x50ss"
    net = (
        b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"
        + meta
        + b"X\x05\x00\x00\x00state"
        + state
        + b"s\x85R"
    )
    return op(b"}X\x05\x00\x00\x00first" + inner + b"sX\x03\x00\x00\x00ema" + net + b"s")


ONE_HASH = 2**61 - 1  # multiples of it share a hash, so that n of them in a dictionary take n^2 steps


def colliding(opening: bytes, closing: bytes, value: bytes = b"N", sign: int = 1) -> bytes:
    """A collection of integers of one hash."""
    keys = ((sign * ONE_HASH * number).to_bytes(13, "little", signed=True) for number in range(1, 200))
    return op(opening + b"(" + b"".join(b"\x8a\x0d" + key + value for key in keys) + closing)


def looked_at_often(rounds: int) -> bytes:
    """A module that is given one state of 40 names again and again."""
    names = b"".join(b"X\x05\x00\x00\x00" + f"{number:05}".encode() + b"N" for number in range(40))
    module = b"ctorch.nn.modules.container\nModuleDict\n)Rq\x01"
    return op(b"}(" + names + b"uq\x00" + module + b"h\x00b" * rounds)


def sharing(count: int) -> bytes:
    """Modules that share one dictionary of 40 names without tensors."""
    nothing = {str(number): None for number in range(40)}
    parts = {str(number): network("Linear", _parameters=nothing) for number in range(count)}
    return pickled({"ema": network("EDMPrecond", _init_kwargs=OPTIONS, _modules=parts)})


# what is in the pickle, and a phrase of the message
PICKLES = {
    "os.system": (calls("os", "system", f"touch {CANARY}"), "os.system"),
    "posix.system": (calls("posix", "system", f"touch {CANARY}"), "posix.system"),
    "builtins.eval": (calls("builtins", "eval", f"open('{CANARY}', 'w')"), "builtins.eval"),
    "builtins.exec": (calls("builtins", "exec", TOUCH), "builtins.exec"),
    "__builtin__.eval of protocol 0": (pickled(Called(Name("__builtin__", "eval"), (TOUCH,)), 0), "__builtin__.eval"),
    "getattr": (calls("builtins", "getattr", Name("collections", "OrderedDict"), "__init__"), "builtins.getattr"),
    "subprocess": (calls("subprocess", "Popen", ["touch", CANARY]), "subprocess.Popen"),
    "import_module": (calls("importlib", "import_module", "os"), "importlib.import_module"),
    "a dotted name": (calls("collections", "OrderedDict.fromkeys", ["a"]), "collections.OrderedDict.fromkeys"),
    "torch.load": (calls("torch.serialization", "load", "a"), "torch.serialization.load"),
    "numpy arrays of objects": (calls("numpy.core.multiarray", "_reconstruct", 0, (0,), b"b"), "_reconstruct"),
    "a pickle in numpy's loader": (calls("numpy", "load", "x.npy", None, True), "numpy.load"),
    "nested reduce": (
        holding(Called(Called(Name("builtins", "getattr"), (Name("os", "path"), "x")), ("a",))),
        "builtins.getattr",
    ),
    "reduce of a result": (holding(Called(Called(Name("collections", "OrderedDict"), ()), ())), "calls a Ordered"),
    "reduce of text": (op(b"U"[:0] + pickle.SHORT_BINUNICODE + b"\x02os)R", 4), "calls a str"),
    "arguments that are no tuple": (op(b"ccollections\nOrderedDict\n]R"), "calls a function with a list"),
    "stack global of numbers": (op(b"K\x01K\x02\x93", 4), "asks for int.int"),
    "build of a list": (op(b"]}b"), "a state of type dict to a list"),
    "build of a number": (op(b"K\x01}b"), "a state of type dict to a int"),
    "build of a name": (op(b"ccollections\nOrderedDict\n}b"), "a state of type dict to a function"),
    "build with slots": (holding(Called(MODULE_DICT, (), ({}, {"__class__": 1}))), "a state of type tuple to a Module"),
    "build with strange names": (holding(Called(MODULE_DICT, (), {1: 2})), "a state of type dict to a Module"),
    "another class": (calls("torch.nn.modules.linear", "Linear"), "torch.nn.modules.linear.Linear"),
    "a module with arguments": (calls("torch.nn.modules.container", "ModuleDict", {}), "calls ModuleDict with dict"),
    "a network without a state": (
        pickled({"ema": Called(PERSISTENT, ({"type": "class"},))}),
        "class or state is missing",
    ),
    "a network of text": (pickled({"ema": Called(PERSISTENT, ("x",))}), "_reconstruct_persistent_obj with str"),
    "a parameter of a list": (
        with_tensor(Called(PARAMETER, ([], True, OrderedDict()))),
        "_rebuild_parameter with list",
    ),
    "copyreg of another class": (
        op(b"ccopy_reg\n_reconstructor\n(ccollections\nOrderedDict\nc__builtin__\nobject\nNtR"),
        "copyreg._reconstructor",
    ),
    "INST": (op(b"(S'x'\nios\nsystem\n", 0), "instruction STRING"),
    "INST alone": (op(b"(ios\nsystem\n", 0), "instruction INST"),
    "OBJ": (op(b"(cos\nsystem\no"), "os.system"),
    "OBJ of a stand-in": (op(b"(ccollections\nOrderedDict\no"), "instruction OBJ"),
    "EXT1": (op(b"\x82\x01"), "instruction EXT1"),
    "EXT4": (op(b"\x84\x01\x00\x00\x00"), "instruction EXT4"),
    "NEWOBJ_EX": (op(b"ccollections\nOrderedDict\n)}\x92", 4), "instruction NEWOBJ_EX"),
    "NEXT_BUFFER": (op(b"\x97", 5), "instruction NEXT_BUFFER"),
    "PERSID": (op(b"Pname\n", 0), "instruction PERSID"),
    "a persistent id": (op(b"NQ"), "persistent id outside a torch"),
    "memo of nothing": (op(b"h\x07"), "asks for value 7"),
    "memo far away": (op(b"Nr\xff\xff\xff\xff0j\xfe\xff\xff\xff"), "instruction POP"),
    "memo of an empty stack": (op(b"q\x00"), "from an empty pickle stack"),
    "a mark that never was": (op(b"t"), "never opened"),
    "below the mark": (op(b"N(R"), "from an empty pickle stack"),
    "left over": (op(b"NN"), "values left over"),
    "a key without a value": (op(b"}(K\x01u"), "a key without a value"),
    "a key of nested tuples": (op(b"})" + b"q\x00h\x00\x86" * 60 + b"Ns"), "a tuple for a key"),
    "a list as a key": (op(b"}]Ns"), "a list for a key"),
    "keys of one hash": (colliding(b"}", b"u"), "an integer of 61 bits for a key"),
    "negative keys of one hash": (colliding(b"}", b"u", sign=-1), "an integer of 61 bits for a key"),
    "keys of one hash in a DICT": (colliding(b"", b"d"), "an integer of 61 bits for a key"),
    "keys of one hash as text": (op(b"}L" + str(ONE_HASH).encode() + b"L\nNs", 0), "an integer of 61 bits for a key"),
    "a set of one hash": (colliding(b"\x8f", b"\x90", b""), "an integer of 61 bits for a key"),
    "a frozen set of one hash": (colliding(b"", b"\x91", b""), "an integer of 61 bits for a key"),
    "memos of one hash": (op(b"Np" + str(ONE_HASH).encode() + b"\n", 0), "a number of 61 bits"),
    "a negative memo": (op(b"Np-2\n", 0), "a number of 2 bits"),
    "append to a dictionary": (op(b"}Na"), "fills a dict as if it were a list"),
    "items for a list": (op(b"](NNu"), "fills a list as if it were a dict"),
    "nested deeply": (op(nested(5000)), "collections inside each other"),
    "a huge integer": (op(b"\x8b\xff\xff\xff\x7f"), "integer of 2,147,483,647 bytes"),
    "a huge number as text": (op(b"L" + b"9" * 5000 + b"L\n", 0), "a line of more than 64 bytes"),
    "a huge frame": (op(b"\x95" + b"\xff" * 8, 4), "ends in the middle"),
    "huge bytes": (op(b"\x8e\xff\xff\xff\xff\xff\x00\x00\x00", 4), "ends in the middle"),
    "huge text": (op(b"\x8d\xff\xff\xff\xff\x00\x00\x00\x00", 4), "ends in the middle"),
    "text that is none": (op(b"X\x02\x00\x00\x00\xff\xff"), "no Unicode"),
    "a protocol to come": (op(b"N", 9), "protocol 9"),
    "a name without end": (op(b"c" + b"a" * 5000), "a line of more than 256 bytes"),
    "text again and again": (
        op(
            b"c_codecs\nencode\nq\x00X\x00\x00\x10\x00"
            + b"a" * 2**20
            + b"q\x01X\x06\x00\x00\x00latin1q\x02"
            + b"h\x00h\x01h\x02\x86R" * 200
        ),
        "unpacks to far more",
    ),
    "another encoding": (calls("_codecs", "encode", "x", "unicode_escape"), "expected latin1"),
    "a numpy object": (holding(Called(Name("numpy", "dtype"), ("O8", False, True))), "numpy type 'O8'"),
    "a short number": (
        holding(
            Called(
                Name("numpy.core.multiarray", "scalar"), (Called(Name("numpy", "dtype"), ("f8", False, True)), b"abc")
            )
        ),
        "a number of 3 bytes",
    ),
    "a huge claim": (with_tensor(saved(A, shape=(10**9, 10**9))), "reaches number"),
    "a claim of all storages": (with_tensor(saved(A, legacy(A, count=2**62, length=2**62))), "ends in the middle"),
    "zero strides": (with_tensor(saved(A, shape=(10**12,), steps=(0,))), "overlap in memory"),
    "overlapping entries": (with_tensor(saved(A, shape=(2, 2), steps=(1, 1))), "overlap in memory"),
    "negative strides": (with_tensor(saved(A, shape=(4,), steps=(-1,), offset=3)), "strides that are not negative"),
    "a negative offset": (with_tensor(saved(A, shape=(2,), offset=-1)), "no negative offset"),
    "negative sizes": (with_tensor(saved(A, shape=(-2, -2))), "expected a storage, positive sizes"),
    "beyond the storage": (with_tensor(saved(A, shape=(4,), offset=1)), "reaches number 4 of a storage of 4"),
    "true for a size": (with_tensor(saved(A, shape=(True,))), "positive sizes"),
    "many dimensions": (with_tensor(saved(A, shape=(1,) * 40)), "at most 8"),
    "a tensor of text": (with_tensor(tensor("abc", (1,))), "a tensor of a str"),
    "a tensor without arguments": (with_tensor(Called(REBUILD, ())), "_rebuild_tensor_v2 with nothing"),
    "tensors of far more": (
        many_of_one(),
        "claim far more bytes",
    ),
    "a storage of objects": (with_tensor(saved(A, legacy(A, kind=Name("torch", "Storage")))), "torch.Storage"),
    "code in a storage": (with_tensor(saved(A, legacy(A, kind=Name("os", "system")))), "os.system"),
    "a short storage": (with_tensor(saved(A, legacy(A, raw=b"abcd"))), "ends in the middle"),
    "a storage of another length": (with_tensor(saved(A, legacy(A, length=3))), "another length"),
    "a storage of big-endian numbers": (
        with_tensor(saved(A, legacy(A, system={"little_endian": False}))),
        "big-endian",
    ),
    "a stream of another kind": (with_tensor(saved(A, pickled(3, 2))), "magic number"),
    "a stream in a stream": (with_tensor(saved(A, legacy(A, kind=Called(LOAD, (legacy(A),))))), "_load_from_bytes"),
    "a state dict for a storage": (with_tensor(saved(A, state_dict_zip({"a": A}))), "expected a tensor's storage"),
    "a zip bomb in a stream": (
        with_tensor(
            saved(
                A, zipped(Kept(("storage", kind_of(A), "0", "cpu", 2**22)), {"0": bytes(2**24)}, zipfile.ZIP_DEFLATED)
            )
        ),
        "zip bombs",
    ),
    "a zip in another byte order": (
        with_tensor(saved(A, zipped(Kept(("storage", kind_of(A), "0", "cpu", 4)), {"0": A.tobytes()}, order=b"big"))),
        "big-endian",
    ),
    "options that hold themselves": (with_options({"channel_mult": endless()}), "far larger than any"),
    "options that laugh": (with_options({"channel_mult": laughs(40)}), "far larger than any"),
    "options with a tensor": (with_options({"channel_mult": saved(A)}), "holds a Tensor"),
    "no options": (with_options(None), "lacks the arguments"),
    "no network": (pickled({"ema": 3}), "expected an EDM checkpoint"),
    "a list": (pickled([1, 2, 3]), "a pickle of a list"),
    "a parameter that is text": (with_tensor("weights"), "is a str; expected a tensor"),
    "a module that is text": (pickled(edm(_modules={"model": "x"})), "is a str; expected a module"),
    "parts of no dictionary": (pickled(edm(_parameters=[1])), "_parameters is no dictionary"),
    "a module named again and again": (named_often(), "names more than 20,000 tensors"),
    "a network inside itself": (own_module(), "in each other without end"),
    "not a pickle": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is no pickle"),
    "text": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is no pickle"),
    "zeros": (bytes(10_000), "is no pickle"),
    "empty": (b"", "is empty"),
}


@pytest.fixture
def quiet(tmp_path, monkeypatch):
    """A working folder in which nothing may appear, and a bound on memory."""
    monkeypatch.chdir(tmp_path)
    tracemalloc.start()
    yield tmp_path
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not (tmp_path / CANARY).exists()
    assert peak < MEMORY, f"{peak / 2**20:.0f} MiB"


def refused(path) -> str:
    with pytest.raises(ImporterError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert path.name in message or path.parent.name in message
    assert "\n" not in message
    assert len(message) < 800
    return message


@pytest.mark.parametrize("kind", PICKLES)
def test_hostile_pickle(quiet, kind):
    content, phrase = PICKLES[kind]
    path = quiet / "edm.pkl"
    path.write_bytes(content)
    assert phrase in refused(path)


@pytest.mark.parametrize(
    ("limit", "code", "phrase"),
    [
        ("MAX_INSTRUCTIONS", b"N" + b"q\x00" * 300, "more than 200 pickle instructions"),
        ("MAX_STACK", b"N" * 300, "more than 200 values on the pickle's stack"),
    ],
)
def test_streams_without_end(quiet, monkeypatch, limit, code, phrase):
    monkeypatch.setattr(machine, limit, 200)
    (quiet / "edm.pkl").write_bytes(op(code))
    assert phrase in refused(quiet / "edm.pkl")


@pytest.mark.parametrize(
    ("limit", "content", "phrase"),
    [
        ("machine.MAX_INSTRUCTIONS", looked_at_often(20), "more than 500 pickle instructions"),
        ("torch_save.MAX_ENTRIES", sharing(20), "in each other without end"),
    ],
)
def test_one_collection_looked_at_again_and_again(quiet, monkeypatch, limit, content, phrase):
    """Few instructions, each of which costs as much as the collection is long."""
    monkeypatch.setattr(f"pplemd.importers.pickles.{limit}", 500)
    (quiet / "edm.pkl").write_bytes(content)
    assert phrase in refused(quiet / "edm.pkl")


@pytest.mark.parametrize("tenth", range(1, 10))
@pytest.mark.parametrize("format", ["edm.pkl", "model.bin", "model.safetensors", "weights.npz"])
def test_truncated_at_every_tenth(quiet, whole, format, tenth):
    content = whole[format]
    (quiet / format).write_bytes(content[: len(content) * tenth // 10])
    (quiet / "config.json").write_text(json.dumps(OPTIONS))
    refused(quiet / format)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Sound files, which are read as a check."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "config.json").write_text(json.dumps(OPTIONS))
    write_safetensors(folder / "model.safetensors", weights())
    np.savez(
        folder / "weights.npz", config=json.dumps(OPTIONS), **{f"sd/{key}": value for key, value in weights().items()}
    )
    (folder / "model.bin").write_bytes(state_dict_zip(weights()))
    (folder / "edm.pkl").write_bytes(pickled(edm()))
    for path in folder.iterdir():
        if path.suffix != ".json":
            found = read_checkpoint(path)
            assert found.architecture == "edm"
            for name, array in weights().items():
                np.testing.assert_array_equal(found.arrays[name], array)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def header(content: object, rest: bytes = bytes(16), size: int | None = None) -> bytes:
    """A safetensors file."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + rest


def entry(**changed: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **changed}


SAFETENSORS = {
    "a huge header": (header({}, size=2**60), "its header would have"),
    "no header": (b"\0" * 4, "no safetensors file"),
    "a header that is no JSON": (header(b"{not json}"), "no sound JSON"),
    "a JSON bomb": (header(b'{"a":' * 50_000), "no sound JSON (it is nested too deeply"),
    "a name twice": (header(b'{"a": {"dtype": "U8"}, "a": {}}'), "a name is there twice"),
    "an unknown type": (header({"a": entry(dtype="O8")}), "is damaged: "),
    "a type of another library": (header({"a": entry(dtype="F8_E4M3", shape=[16])}), "expected one of F64"),
    "negative sizes": (header({"a": entry(shape=[-2, -2])}), "is damaged: "),
    "a size that is no number": (header({"a": entry(shape=["4"])}), "is damaged: "),
    "many dimensions": (header({"a": entry(shape=[4] + [1] * 39)}), "at most 8 sizes"),
    "more than the file": (header({"a": entry(shape=[2**30], data_offsets=[0, 2**32])}), "is damaged: "),
    "another number of bytes": (header({"a": entry(shape=[5])}), "is damaged: "),
    "overlapping arrays": (header({"a": entry(), "b": entry(data_offsets=[8, 24])}, bytes(24)), "is damaged: "),
    "a hole": (header({"a": entry(data_offsets=[4, 20])}, bytes(20)), "is damaged: "),
    "bytes left over": (header({"a": entry()}, bytes(17)), "is damaged: "),
    "sizes that overflow, one of them 0": (
        header({"a": entry(shape=[0, 2**47, 2**47], data_offsets=[0, 0])}, b""),
        "far below 2^48 together",
    ),
    "a nest in the metadata": (
        header(b'{"__metadata__": ' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}", b""),
        "no sound JSON (it is nested too deeply",
    ),
    "no offsets": (header({"a": {"dtype": "F32", "shape": []}}), "is damaged: "),
    "an array of text": (header({"a": "b"}), "is damaged: "),
}


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
UNET_2D = {"_class_name": "UNet2DModel", "sample_size": 8, "block_out_channels": [8]}
EDM = {**OPTIONS, "img_resolution": 8, "model_channels": 8, "channel_mult": [1]}
BOUNDED = {  # a configuration that says far more than there is, with the names of empty arrays
    "EDM's blocks": (EDM | {"num_blocks": 50_000}, "model.enc.8x8_block{}.conv0.weight"),
    "EDM's levels": (EDM | {"num_blocks": 1, "channel_mult": [1] * 700}, "model.enc.8x8_block{}.conv0.weight"),
    "UNet2DModel's blocks": (UNET_2D | {"layers_per_block": 50_000}, "down_blocks.0.resnets.{}.conv1.weight"),
    "UNet2DModel's levels": (
        UNET_2D
        | {"block_out_channels": [8] * 700}
        | {"down_block_types": ["DownBlock2D"] * 700, "up_block_types": ["UpBlock2D"] * 700},
        "down_blocks.{}.resnets.0.conv1.weight",
    ),
    "a transformer's layers": ({"architecture": "pixel_transformer"}, "transformer.{}.linear1.weight"),
}
SIZED = {"patch_embed.weight": [8, 3, 2, 2], "pos_embed": [1, 4, 8], "transformer.0.linear1.weight": [8, 8]}


@pytest.mark.parametrize("kind", BOUNDED)
@pytest.mark.parametrize("full", [False, True])
def test_time_is_bounded_by_what_is_there(tmp_path, kind, full):
    """Nothing is built of empty arrays, nor of more blocks than any network has."""
    config, name = BOUNDED[kind]
    entries, end = {}, 0
    for key, shape in SIZED.items():
        entries[key] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + 4 * int(np.prod(shape))]}
        end += 4 * int(np.prod(shape))
    for number in range(1, 2000):
        size = 1 if full else 0
        entries[name.format(number)] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    (tmp_path / "model.safetensors").write_bytes(header(entries, bytes(end)))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ImporterError, match="the configuration says .* blocks or more"):  # before any is built
        build(read_checkpoint(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(("stage", "block"), [("layer1", "{}"), ("layer{}", "0")])
def test_the_layers_of_a_classifier_are_bounded(tmp_path, stage, block):
    names = [f"{stage}.{block}.conv1.weight".format(number) for number in range(2000)]
    arrays = {name: EMPTY for name in ("layer1.0.conv1.weight", *names)}
    (tmp_path / "model.safetensors").write_bytes(header(arrays, b""))
    with pytest.raises(ImporterError, match="blocks or more .pplemd builds 600 at most"):
        read_classifier(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "phrase"), [({"resample_filter": [1.0] * 2000}, "at most 64 numbers"), ({"M": 2**20}, "up to 100000")]
)
def test_sizes_that_no_array_bounds(change, phrase):
    with pytest.raises(ImporterError, match=phrase):
        edm_denoiser(EDM | change, None, "iDDPMPrecond" if "M" in change else "EDMPrecond")


def test_places_without_end(quiet, monkeypatch):
    """Dictionaries of a training checkpoint that lie in each other, or are named again and again."""
    monkeypatch.setattr("pplemd.importers.pickles.stand_ins.MAX_ENTRIES", 2000)
    value = {"weight": tensor(Kept(("storage", kind_of(A), "0", "cpu", 4)), (4,))}
    for _ in range(6):
        value = {f"{number}": value for number in range(40)}
    (quiet / "model.pt").write_bytes(zipped(value, {"0": A.tobytes()}))
    assert "more than 2,000 entries" in refused(quiet / "model.pt")
    names = {f"{number}.time_embedding.linear_1.weight": EMPTY for number in range(900)}
    names |= {f"{number}.conv_in.weight": EMPTY for number in range(900)}
    (quiet / "model.safetensors").write_bytes(header(names, b""))
    (quiet / "config.json").write_text(json.dumps(UNET_2D))
    assert "900 networks that nothing tells apart" in refused(quiet / "model.safetensors")


@pytest.mark.parametrize("kind", SAFETENSORS)
def test_hostile_safetensors(quiet, kind):
    content, phrase = SAFETENSORS[kind]
    (quiet / "model.safetensors").write_bytes(content)
    (quiet / "config.json").write_text(json.dumps(OPTIONS))
    assert phrase in refused(quiet / "model.safetensors")


def npz(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def claiming(shape: tuple, dtype: str = "<f4") -> bytes:
    """An .npz whose array claims another size than it has."""
    head, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": dtype, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sd/a.npy", head.getvalue() + bytes(16))
    return file.getvalue()


def cut_header() -> bytes:
    """An .npz whose array's header ends in the middle of a bracket."""
    head, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(head, A)
    cut = head.getvalue().replace(b"(4,)", b"((4,")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sd/a.npy", cut)
    return file.getvalue()


def damaged_lzma() -> bytes:
    """An .npz whose array's compressed bytes are others."""
    head, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(head, np.arange(64, dtype=np.float32))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("sd/a.npy", head.getvalue())
    content = bytearray(file.getvalue())
    begin = content.index(b"sd/a.npy") + len("sd/a.npy") + 9 + 1  # after the name and LZMA's properties
    content[begin : begin + 40] = b"\xff" * 40
    return bytes(content)


class Harm:
    def __reduce__(self):
        return exec, (TOUCH,)


NPZ = {
    "pickled objects": (lambda: npz(**{"sd/a": np.array([Harm()], dtype=object)}), "no plain array"),
    "a pickled config": (lambda: npz(config=np.array(Harm(), dtype=object)), "no plain array"),
    "a config of numbers": (lambda: npz(config=np.ones(3)), "expected JSON text"),
    "a config of half a character": (lambda: npz(config='{"a": "\ud800"}'), "no sound JSON"),
    "a header that ends in a bracket": (cut_header, "no plain array"),
    "LZMA of other bytes": (damaged_lzma, "no plain array"),
    "a zip bomb": (lambda: npz(**{"sd/a": np.zeros(2**25, np.float32)}), "zip bombs"),
    "a huge claim": (lambda: claiming((2**40,)), "no plain array"),
    "a negative claim": (lambda: claiming((-2, -2)), "no plain array"),
    "no arrays": (lambda: b"PK\x03\x04" + bytes(100), "its zip is damaged"),
}


@pytest.mark.parametrize("kind", NPZ)
def test_hostile_npz(quiet, kind):
    make, phrase = NPZ[kind]
    tracemalloc.stop()  # the making of a zip bomb is no concern
    (quiet / "weights.npz").write_bytes(make())
    tracemalloc.start()
    assert phrase in refused(quiet / "weights.npz")


def test_the_canary_sings(tmp_path, monkeypatch):
    """Python's own unpickler does what these files ask for: the test above would see it."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(PICKLES["__builtin__.eval of protocol 0"][0].replace(b"eval", b"exec"))
    assert (tmp_path / CANARY).exists()
