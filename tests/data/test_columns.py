"""Columns by name, from folders of .npy files and from .npz files."""

import numpy as np
import pytest

from pplemd.data import columns
from pplemd.errors import DataError

IMAGE, Y = np.arange(24, dtype=np.uint8).reshape(4, 6), np.linspace(0, 1, 4)


def test_a_folder_is_memory_mapped_and_an_npz_is_read(tmp_path):
    np.savez(tmp_path / "all.npz", image=IMAGE, y=Y)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "image.npy", IMAGE)
    np.save(tmp_path / "folder" / "y.npy", Y)
    for found in (columns(tmp_path / "all.npz"), columns(str(tmp_path / "folder"))):
        assert list(found) == ["image", "y"]
        assert found["image"].dtype == np.uint8
        np.testing.assert_array_equal(found["image"], IMAGE)
        np.testing.assert_array_equal(found["y"], Y)
    assert all(isinstance(one, np.memmap) for one in columns(tmp_path / "folder").values())
    assert not any(isinstance(one, np.memmap) for one in columns(tmp_path / "all.npz").values())


def test_mistakes_are_told(tmp_path):
    with pytest.raises(DataError, match="found nothing there, expected a folder of .npy files, or an .npz"):
        columns(tmp_path / "gone")
    with pytest.raises(DataError, match="found no array, expected one for each column"):
        columns(tmp_path)
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="found a .csv file, expected"):
        columns(tmp_path / "table.csv")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(DataError, match=r"damaged.npz: found no arrays that can be read"):
        columns(tmp_path / "damaged.npz")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match=r"objects.npy: found no arrays that can be read"):
        columns(tmp_path)
