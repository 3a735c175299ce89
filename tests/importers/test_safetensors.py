"""The safetensors format: what is written is read again, by us and by the package."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from pplemd.importers.weights import read_safetensors, write_safetensors

ARRAYS = {
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "bfloat16": np.array([1.5, -2.0, 3.0], ml_dtypes.bfloat16),
    "empty": np.zeros((0, 2), np.int64),
    "big-endian": np.arange(4, dtype=">f4"),
    "scalar": np.array(3.5, np.float16),
    "flags": np.array([True, False]),
}


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, ARRAYS)
    found = read_safetensors(path)
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].shape == array.shape, name
        assert found[name].dtype == array.dtype.newbyteorder("<") or name == "bfloat16", name
        np.testing.assert_array_equal(found[name].astype(np.float64), array.astype(np.float64))
    assert found["bfloat16"].dtype == ml_dtypes.bfloat16
    assert not any(array.flags.owndata for array in found.values())  # views of the file


def test_the_package_reads_what_is_written(tmp_path):
    path = tmp_path / "weights.safetensors"
    plain = {name: array for name, array in ARRAYS.items() if name != "bfloat16"}  # which it does not load for NumPy
    write_safetensors(path, plain)
    for name, array in load_file(path).items():
        np.testing.assert_array_equal(array, plain[name])


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        write_safetensors(tmp_path / "absent" / "weights.safetensors", ARRAYS)
