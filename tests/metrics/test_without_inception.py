"""Without the extra `fid`, what asks for Inception says how to get it."""

import sys

import numpy as np
import pytest

from pplemd.errors import DataError
from pplemd.metrics.inception import inception_features, inception_figures, inception_statistics


@pytest.mark.parametrize("ask", [inception_features, inception_figures, inception_statistics])
def test_a_missing_extra_is_named(monkeypatch, ask):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)  # as if it were not installed
    with pytest.raises(DataError, match=r"pip install 'pplemd\[fid\]'"):
        ask(np.zeros((20, 8, 8, 1)))
