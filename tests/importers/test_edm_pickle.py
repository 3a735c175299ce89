"""EDM's checkpoints, in look-alikes of each pickle protocol: every array and every option, no code."""

import pickle

import numpy as np
import pytest
from look_alikes import LOAD, Called, Kept, edm, kind_of, legacy, network, pickled, tensor, weights, zipped

from pplemd.errors import ImporterError
from pplemd.importers import read_checkpoint


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_array_and_option(tmp_path, protocol):
    path = tmp_path / "edm.pkl"
    path.write_bytes(pickled(edm(protocol), protocol))
    found = read_checkpoint(path)
    assert found.architecture == "edm"
    assert found.config == {
        "img_resolution": 8, "img_channels": 3, "label_dim": 10, "model_type": "SongUNet", "channel_mult": [1, 2],
        "dropout": 0.125,
    }  # fmt: skip
    expected = weights()
    assert set(found.arrays) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    assert found.parameters == 108 + 4 + 4 + 6


def test_numbers_are_views_of_the_file(tmp_path):
    array = np.arange(30_000, dtype=np.float32)
    net = network(
        "EDMPrecond",
        _parameters={"weight": tensor(Called(LOAD, (legacy(array),)), (100, 300))},
        _init_kwargs={"model_type": "SongUNet"},
    )
    path = tmp_path / "edm.pkl"
    path.write_bytes(pickled({"ema": net}))
    found = read_checkpoint(path).arrays["weight"]
    np.testing.assert_array_equal(found, array.reshape(100, 300))
    assert not found.flags.owndata
    assert not found.flags.writeable


def test_storages_in_the_zip_format(tmp_path):
    array = np.arange(6, dtype=np.float64)
    stream = zipped(Kept(("storage", kind_of(array), "0", "cuda:0", 6)), {"0": array.tobytes()})
    net = network(
        "EDMPrecond", _parameters={"weight": tensor(Called(LOAD, (stream,)), (2, 2), (2, 1), 1)}, _init_kwargs={}
    )
    path = tmp_path / "edm.pkl"
    path.write_bytes(pickled({"ema": net}))
    np.testing.assert_array_equal(read_checkpoint(path).arrays["weight"], [[1.0, 2.0], [3.0, 4.0]])


def test_the_averaged_network_is_preferred(tmp_path):
    path = tmp_path / "edm.pkl"
    other = network("EDMPrecond", _init_kwargs={"img_resolution": 99})
    path.write_bytes(pickled({"net": other, **edm()}))
    assert read_checkpoint(path).config["img_resolution"] == 8
    path.write_bytes(pickled({"net": other}))
    assert read_checkpoint(path).config["img_resolution"] == 99


def test_another_preconditioner_is_named(tmp_path):
    path = tmp_path / "vp.pkl"
    path.write_bytes(pickled(edm(kind="VPPrecond2")))
    with pytest.raises(ImporterError, match=r"vp.pkl is no EDM checkpoint.*VPPrecond2; expected one of"):
        read_checkpoint(path)
