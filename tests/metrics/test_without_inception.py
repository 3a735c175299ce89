"""What works without the extra `fid`: what asks for Inception says how to get it."""

import sys

import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.metrics.inception import as_bytes, inception_features, inception_figures, inception_statistics


@pytest.mark.parametrize("ask", [inception_features, inception_figures, inception_statistics])
def test_a_missing_extra_is_named(monkeypatch, ask):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)  # as if it were not installed
    with pytest.raises(DataError, match=r"pip install 'pplemd\[fid\]'"):
        ask(np.zeros((20, 8, 8, 1)))


def test_images_become_bytes_in_three_channels():
    x = np.array([-1.0, -1 / 255, 1.0, 3.0]).reshape(1, 2, 2, 1)
    found = as_bytes(x)
    assert found.shape == (1, 3, 2, 2)
    assert found[0, 1].ravel().tolist() == [0, 127, 255, 255]
    with pytest.raises(DataError, match=r"\(n, h, w, 3\)"):
        as_bytes(np.zeros((2, 8, 8, 4)))
    with pytest.raises(DataError, match="NaN or infinity in 1 of 2 images"):  # and not black ones
        as_bytes(np.stack([np.zeros((8, 8, 1)), np.full((8, 8, 1), np.nan)]))
    with pytest.raises(DataError, match="images of uint8"):
        as_bytes(np.zeros((2, 8, 8, 3), np.uint8))
