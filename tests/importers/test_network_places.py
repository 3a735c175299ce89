"""Training checkpoints and wrappers: the one network is found by its names, the averaged one first, and it is said."""

import json
import logging

import equinox as eqx
import numpy as np
import pytest
from look_alikes import TINY, Called, Kept, Name, kind_of, state_dict_zip, strides, tensor, tiny_weights, zipped

from pplemd.errors import ImporterError
from pplemd.importers import build, notes, read_arrays, read_checkpoint
from pplemd.importers.weights import write_safetensors

RAW = tiny_weights()
AVERAGE = {name: array + np.float32(0.25) for name, array in RAW.items()}
COUNT = np.zeros((), np.int64)


def behind(prefix, arrays=RAW):
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def nested_zip(value) -> bytes:
    """What torch.save writes of arrays in dictionaries and lists, with whatever else lies there."""
    storages = {}

    def stored(item):
        if isinstance(item, dict):
            return {key: stored(inside) for key, inside in item.items()}
        if isinstance(item, list):
            return [stored(inside) for inside in item]
        if not isinstance(item, np.ndarray):
            return item
        key = str(len(storages))
        storages[key] = item.tobytes()
        return tensor(Kept(("storage", kind_of(item), key, "cpu", item.size)), item.shape, strides(item.shape))

    return zipped(stored(value), storages)


def given(folder, value):
    """A file of weights with their configuration."""
    path = folder / "model.pt"
    path.write_bytes(nested_zip(value))
    (folder / "config.json").write_text(json.dumps(TINY))
    return path


OPTIMISER = {"state": {0: {"step": COUNT, "exp_avg": RAW["model.map_layer0.bias"]}}, "param_groups": [{"lr": 1e-3}]}
ARGUMENTS = Called(Name("argparse", "Namespace"), (), {"lr": 0.1, "path": Called(Name("pathlib", "PosixPath"), ("a",))})
# what a file holds; which weights are read; what is said
FOUND = {
    "plain": (RAW, RAW, None),
    "model and ema": ({"model": RAW, "ema": AVERAGE, "step": 3, "opt": OPTIMISER}, AVERAGE, "averaged .* under ema"),
    "with arguments": ({"model": RAW, "ema": AVERAGE, "args": ARGUMENTS}, AVERAGE, "not read .* beside them: model"),
    "model_ema": ({"model": RAW, "model_ema": AVERAGE, "epoch": 2}, AVERAGE, "averaged weights under model_ema"),
    "model_state_dict": ({"model_state_dict": RAW, "loss": 0.5}, RAW, "the weights under model_state_dict were read"),
    "state_dict": ({"state_dict": RAW}, RAW, "under state_dict"),
    "Lightning": (
        {"state_dict": behind("net.") | {"betas": np.ones(9, np.float32)}, "optimizer_states": [OPTIMISER]},
        RAW,
        'under state_dict.net were read, "net." taken off their names; .*: betas',
    ),
    "Lightning, averaged": (
        {"state_dict": behind("net.") | behind("ema.module.", AVERAGE)},
        AVERAGE,
        "averaged weights under state_dict.ema.module",
    ),
    "one inside the other": (
        {"model": behind("model."), "ema": behind("online_model.") | behind("ema_model.", AVERAGE) | {"step": COUNT}},
        AVERAGE,
        "under ema.ema_model",
    ),
    "a list of averages": (
        {"unet": RAW, "ema": {"decay": 0.999, "shadow_params": list(AVERAGE.values())}},
        AVERAGE,
        "under ema.shadow_params",
    ),
    "DataParallel": (behind("module."), RAW, '"module." taken off'),
    "compiled DataParallel": (behind("module._orig_mod."), RAW, '"module._orig_mod." taken off'),
    "model inside model": (behind("model."), RAW, '"model." taken off'),
    "an averaged model of PyTorch's": ({"n_averaged": COUNT, **behind("module.")}, RAW, "not read .*: n_averaged"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOUND)
def test_the_network_is_found_and_it_is_said(tmp_path, kind):
    held, expected, said = FOUND[kind]
    found = read_checkpoint(given(tmp_path, held))
    assert list(found.arrays) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found.arrays[name], array)
    assert len(notes(found)) == (said is not None)
    if said is not None:
        with pytest.raises(AssertionError, match=said):
            raise AssertionError(notes(found)[0])


def test_a_prefix_in_safetensors(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    write_safetensors(tmp_path / "model.safetensors", behind("module."))
    plain = given(tmp_path, RAW)
    assert eqx.tree_equal(build(read_checkpoint(tmp_path / "model.safetensors")), build(read_checkpoint(plain)))


@pytest.mark.parametrize(
    ("held", "phrases"),
    [
        ({"first": RAW, "second": RAW}, ("2 networks", "under first, second", "torch.save(checkpoint")),
        ({"ema_0.9": RAW, "ema_0.99": RAW}, ("2 networks", "ema_0.9, ema_0.99")),
        ({"model": {"a": np.ones(3, np.float32)}}, ("under model", "model.map_layer0.weight")),
        (behind("net.") | {"head.weight": np.ones((3, 3), np.float32)}, ("under net", "head.weight", "larger network")),
        ({"step": 3, "args": ARGUMENTS}, ("without tensors", "'step': int")),
    ],
)
def test_what_nothing_tells_apart_is_named(tmp_path, held, phrases):
    with pytest.raises(ImporterError) as caught:
        read_checkpoint(given(tmp_path, held))
    for phrase in phrases:
        assert phrase in str(caught.value)


def test_misfits_show_both_sides(tmp_path):
    renamed = {f"{name}_" if number < 9 else name: array for number, (name, array) in enumerate(RAW.items())}
    with pytest.raises(ImporterError) as caught:
        build(read_checkpoint(given(tmp_path, renamed)))
    assert str(caught.value).count("missing: ") == str(caught.value).count("left over: ") == 2
    assert "14 more" in str(caught.value)


def test_arrays_of_any_network(tmp_path, caplog):
    any_net, average = {"a.weight": np.ones((2, 2), np.float32)}, {"a.weight": np.zeros((2, 2), np.float32)}
    with caplog.at_level(logging.WARNING, "pplemd"):
        for held in ({"net": any_net, "step": 3}, {"weights": any_net, "optimizer": {"b": COUNT}}, any_net):
            assert read_arrays(given(tmp_path, held))["a.weight"].all()
        assert not caplog.text
        assert not read_arrays(given(tmp_path, {"model": any_net, "ema": average}))["a.weight"].any()
    assert "the averaged weights under ema were read" in caplog.text
    with pytest.raises(ImporterError, match="2 networks that nothing tells apart, under first, second"):
        read_arrays(given(tmp_path, {"first": any_net, "second": any_net}))
    (tmp_path / "flat.pt").write_bytes(state_dict_zip(any_net))
    assert list(read_arrays(tmp_path / "flat.pt")) == ["a.weight"]
